import { createHash } from "node:crypto";
import { realpath } from "node:fs/promises";
import { join, relative } from "node:path";
import { fail } from "@coppice/proto/kit/failure";
import { claimName } from "../../../journal/claim-name.ts";
import { nearestFolder } from "../owner.ts";

/** The same for every way to write a path that leads to the same place. */
async function placeOf(dataDirectory: string): Promise<string> {
  const there = await nearestFolder(dataDirectory);
  return join(await realpath(there), relative(there, dataDirectory));
}

/**
 * Keeps every other restore on this host away from a data directory until it is disposed, or this process is gone, however
 * it ends. Fails with RESTORE_RUNNING where another one has it.
 */
export async function openDirectoryLock(dataDirectory: string): Promise<AsyncDisposable> {
  const place = createHash("sha256")
    .update(await placeOf(dataDirectory))
    .digest("hex");
  const claim = await claimName(`coppice-restore-${place.slice(0, 40)}`);
  return claim ?? fail("RESTORE_RUNNING", `another restore into ${dataDirectory} is at work on this host`);
}
