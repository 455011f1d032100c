import { once } from "node:events";
import { chmod, chown, rm } from "node:fs/promises";
import { createServer, type ServerResponse } from "node:http";
import { Failure, toFailure } from "@coppice/proto/kit/failure";
import type { OsUser } from "../../host/os-user.ts";
import { isWalName } from "../../repository/layout.ts";
import { openPrefetch, type PrefetchOptions } from "./prefetch.ts";

/** What files of WAL are handed out by. */
export interface ServeOptions extends PrefetchOptions {
  /** Path of the Unix socket; at most 107 bytes, in a folder that only the server's user may enter besides us. */
  readonly socketPath: string;
  /** The server's, who alone may ask and read; undefined where it is ours. */
  readonly user?: OsUser | undefined;
  /** Called with each file that was handed out. */
  readonly onServed?: (name: string) => void;
  /** Called with each file that could not be had, and why: its server is told no more than that, and ends. */
  readonly onFailed?: (name: string, failure: Failure) => void;
}

/**
 * Hands out files of an archive over a Unix socket until it is disposed: GET /NAME is answered with the path of the file,
 * which the server's user may read until the next one is asked for; 404 when the archive surely has none, else 503
 * with a line of text. `coppice-wal fetch` asks it. Fails with DATA_FOLDER_UNUSABLE.
 */
export async function openFetchServer(options: ServeOptions): Promise<AsyncDisposable> {
  const { socketPath, user, wal, onServed, onFailed } = options;
  const give = async (path: string) => {
    if (user && process.geteuid?.() === 0) await chown(path, user.uid, user.gid);
    await chmod(path, 0o600);
  };
  const prefetch = openPrefetch(options);
  let given: string | undefined;
  async function answer(name: string, response: ServerResponse): Promise<void> {
    const path = isWalName(name) ? await prefetch.take(name) : undefined;
    if (path === undefined) return void response.writeHead(404).end("the archive has no such file\n");
    // A server asks for one file after another: the one before it has by now.
    if (given !== undefined) await rm(given, { force: true });
    given = path;
    // By its path, because through a socket 16 MiB take twice the time of a copy, which recovery waits for.
    await give(path);
    response.writeHead(200).end(`${path}\n`);
    onServed?.(name);
  }
  const server = createServer((request, response) => {
    const name = (request.url ?? "").slice(1);
    answer(name, response).catch((error: unknown) => {
      const failure = toFailure(error);
      onFailed?.(name, failure);
      response.writeHead(503).end(`${failure.message}\n`);
    });
  });
  try {
    server.listen(socketPath);
    await once(server, "listening", { signal: wal.signal });
    await give(socketPath);
  } catch (cause) {
    server.close();
    wal.signal.throwIfAborted();
    throw new Failure("DATA_FOLDER_UNUSABLE", `${socketPath} cannot be listened on`, { cause });
  }
  return {
    async [Symbol.asyncDispose]() {
      const closed = once(server, "close");
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}
