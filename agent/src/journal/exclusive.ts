import { createHash } from "node:crypto";
import { realpath } from "node:fs/promises";
import { fail } from "@coppice/proto/kit/failure";
import { claimName } from "./claim-name.ts";

/**
 * Claims the folder for this process until disposed or dead, so that two agents never write one journal. Fails with
 * AGENT_RUNNING.
 */
export async function claimFolder(folder: string): Promise<AsyncDisposable> {
  const digest = createHash("sha256")
    .update(await realpath(folder))
    .digest("hex");
  const claim = await claimName(`coppice-agent-${digest.slice(0, 32)}`);
  return claim ?? fail("AGENT_RUNNING", `another agent runs with the folder ${folder}`);
}
