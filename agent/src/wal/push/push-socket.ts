import { once } from "node:events";
import { createWriteStream } from "node:fs";
import { chmod, chown, mkdir, rm, stat } from "node:fs/promises";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { Failure, fail, toFailure } from "@coppice/proto/kit/failure";
import { isWalName } from "../../repository/layout.ts";

/** A file that coppice-wal offers. */
export interface Offer {
  /** As PostgreSQL knows it. */
  readonly name: string;
  /** The data directory that it lies in, as whoever offers it says. */
  readonly directory: string;
  /** Where its bytes were put for us; undefined when they are to be read out of the data directory. */
  readonly path: string | undefined;
}

/** What files of WAL are taken by. */
export interface PushSocketOptions {
  /** Folder of the socket; only its owner and the server's group may enter. */
  readonly folder: string;
  /** Owner of the server's data directory. */
  readonly owner: { readonly uid: number; readonly gid: number };
  /** Folder of bodies on their way, emptied at the start. */
  readonly spool: string;
  /** Size of the largest file. */
  readonly mostBytes: () => number;
  /** Resolves when the offered file is durable. WAL_FILE_UNREADABLE asks for the bytes themselves. */
  readonly take: (offer: Offer) => Promise<void>;
  readonly signal: AbortSignal;
}

/** What Linux takes as the path of a socket. */
const mostPathBytes = 107;

/** Path of the socket in its folder. */
export function pushSocketPath(folder: string): string {
  return join(folder, "s");
}

/**
 * Takes files of WAL over a Unix socket until it is disposed: POST /NAME with the data directory in a header, and then,
 * where it answers 415, PUT with the bytes. 200 when the file is durable, 409 when it never will be, else 503, each with a
 * line of text. `coppice-wal push` asks it. Fails with DATA_FOLDER_UNUSABLE.
 */
export async function openPushSocket(options: PushSocketOptions): Promise<AsyncDisposable> {
  const { folder, spool, take, signal } = options;
  const path = pushSocketPath(folder);
  if (Buffer.byteLength(path) > mostPathBytes)
    fail("DATA_FOLDER_UNUSABLE", `${path} is longer than the ${mostPathBytes} bytes that a socket's path may have`, {
      hint: "have the agent keep its files in a folder with a shorter path (--data-dir)",
    });
  let count = 0;
  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const name = (request.url ?? "").slice(1);
    const header = request.headers["coppice-directory"];
    const directory = typeof header === "string" ? Buffer.from(header, "latin1").toString("utf8") : "";
    if (!isWalName(name)) throw new Failure("WAL_FOREIGN", `${JSON.stringify(name)} is no file that is archived`);
    if (request.method === "POST") {
      await take({ name, directory, path: undefined });
    } else {
      const file = join(spool, `${count++}_${name}`);
      try {
        await receive(request, file, options.mostBytes());
        await take({ name, directory, path: file });
      } finally {
        await rm(file, { force: true });
      }
    }
    response.writeHead(200).end("stored\n");
  }
  const server = createServer((request, response) => {
    answer(request, response).catch((error: unknown) => {
      const failure = toFailure(error);
      response.writeHead(statusOf(failure)).end(`${failure.message}\n`);
    });
  });
  server.requestTimeout = 0;
  try {
    await rm(spool, { recursive: true, force: true });
    await mkdir(spool, { recursive: true, mode: 0o700 });
    await makeFolder(options);
    // Left by an agent that was killed.
    await rm(path, { force: true });
    server.listen(path);
    await once(server, "listening", { signal });
    // The folder says who gets here.
    await chmod(path, 0o666);
  } catch (cause) {
    server.close();
    signal.throwIfAborted();
    throw new Failure("DATA_FOLDER_UNUSABLE", `${folder} cannot be listened in`, { cause });
  }
  return {
    async [Symbol.asyncDispose]() {
      const closed = once(server, "close");
      server.close();
      server.closeAllConnections();
      await closed;
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** The server's group may enter the folder, and everybody else but root is kept out. */
async function makeFolder({ folder, owner }: PushSocketOptions): Promise<void> {
  const isRoot = process.getuid?.() === 0;
  const parent = join(folder, "..");
  await mkdir(parent, { recursive: true, mode: 0o711 });
  await chmod(parent, 0o711);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const { gid } = await stat(folder);
  const isOther = isRoot || process.getuid?.() !== owner.uid;
  if (isOther && gid !== owner.gid) await chown(folder, process.getuid?.() ?? 0, owner.gid);
  await chmod(folder, isOther ? 0o750 : 0o700);
}

async function receive(request: IncomingMessage, path: string, mostBytes: number): Promise<void> {
  let bytes = 0;
  async function* bounded(): AsyncGenerator<Buffer, void> {
    for await (const chunk of request as AsyncIterable<Buffer>) {
      bytes += chunk.length;
      if (bytes > mostBytes)
        throw new Failure("WAL_FOREIGN", `more than the ${mostBytes} bytes of a segment were sent`);
      yield chunk;
    }
  }
  await pipeline(bounded, createWriteStream(path, { flags: "wx", mode: 0o600 }));
}

function statusOf({ reason }: Failure): number {
  if (reason === "WAL_FILE_UNREADABLE") return 415;
  return reason === "WAL_CONFLICT" || reason === "WAL_FOREIGN" ? 409 : 503;
}
