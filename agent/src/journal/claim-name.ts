import { once } from "node:events";
import { createServer } from "node:net";

/**
 * Claims a name on this host until disposed, or until this process is gone, however it ends; undefined when another process
 * has it. It lies in Linux's abstract socket namespace: in no folder, and the kernel frees it with the process.
 */
export async function claimName(name: string): Promise<AsyncDisposable | undefined> {
  const server = createServer((socket) => socket.destroy());
  server.listen(`\0${name}`);
  try {
    await once(server, "listening");
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "EADDRINUSE")) throw error;
    return undefined;
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
