import { createHash } from "node:crypto";
import { once } from "node:events";
import { realpath } from "node:fs/promises";
import { createServer } from "node:net";
import { fail } from "@coppice/proto/kit/failure";

/**
 * Claims the folder for this process until disposed or dead, so that two agents never write one journal. Fails with
 * AGENT_RUNNING. The claim is a name in Linux's abstract socket namespace: the kernel frees it with the process.
 */
export async function claimFolder(folder: string): Promise<AsyncDisposable> {
  const digest = createHash("sha256")
    .update(await realpath(folder))
    .digest("hex");
  const server = createServer((socket) => socket.destroy());
  server.listen(`\0coppice-agent-${digest.slice(0, 32)}`);
  try {
    await once(server, "listening");
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "EADDRINUSE")) throw error;
    fail("AGENT_RUNNING", `another agent runs with the folder ${folder}`, { cause: error });
  }
  server.unref();
  return {
    async [Symbol.asyncDispose]() {
      const closed = once(server, "close");
      server.close();
      await closed;
    },
  };
}
