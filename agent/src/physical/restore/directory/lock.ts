import { createHash } from "node:crypto";
import { once } from "node:events";
import { realpath } from "node:fs/promises";
import { createServer } from "node:net";
import { join, relative } from "node:path";
import { fail } from "@coppice/proto/kit/failure";
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
  const server = createServer((socket) => socket.destroy());
  // An abstract name: it is in no folder, and the kernel frees it with the process.
  server.listen(`\0coppice-restore-${place.slice(0, 40)}`);
  try {
    await once(server, "listening");
  } catch (cause) {
    if (!(cause instanceof Error && "code" in cause && cause.code === "EADDRINUSE")) throw cause;
    fail("RESTORE_RUNNING", `another restore into ${dataDirectory} is at work on this host`, { cause });
  }
  // Nothing is waited for because of it.
  server.unref();
  return {
    async [Symbol.asyncDispose]() {
      const closed = once(server, "close");
      server.close();
      await closed;
    },
  };
}
