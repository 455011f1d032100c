import { Readable } from "node:stream";
import { fail, Failure } from "@coppice/proto/kit/failure";
import { parseFileKey } from "../file-key.ts";
import type { ByteRange } from "../storage.ts";
import { sftpFailure } from "./sftp-failure.ts";
import { findSftpPath, type SftpPlace } from "./sftp-folder.ts";
import { isRegularFile, isSymbolicLink } from "./sftp-mode.ts";
import { letGo, lookAt, openToRead, readAt, statHandle } from "./sftp-requests.ts";
import { checkSftpRoot } from "./sftp-root.ts";
import { isSftpStatus } from "./sftp-status.ts";

/** What OpenSSH gives in one request, and how many of them are asked for ahead: about 4 MiB for each reader. */
const pieceBytes = 255 * 1024;
const piecesInFlight = 16;

/** Opens one object; see Storage.get. */
export async function getBySftp(
  place: SftpPlace,
  key: string,
  range: ByteRange | undefined,
  signal: AbortSignal,
): Promise<Readable> {
  signal.throwIfAborted();
  const handle = await openObject(place, key, signal);
  try {
    const { size } = await statHandle(place.session, handle, signal);
    const start = Math.min(range?.offset ?? 0, size);
    const end = start + Math.min(range?.length ?? size, size - start);
    return readPart(place, { handle, start, end, key, signal });
  } catch (error) {
    letGo(place.session, handle);
    throw error;
  }
}

/** Looked at before it is opened: a symbolic link would be followed, and opening a FIFO would wait for its writer. */
async function openObject(place: SftpPlace, key: string, signal: AbortSignal): Promise<Buffer> {
  const { session, root } = place;
  const path = await findSftpPath(place, parseFileKey(key), signal);
  const there = path === undefined ? undefined : await lookAt(session, path, signal);
  if (there && isSymbolicLink(there)) {
    fail("OBJECT_KEY_REFUSED", `repository ${root.name}: ${key} is a symbolic link, and none is followed`);
  }
  if (path !== undefined && there && isRegularFile(there)) {
    try {
      return await openToRead(session, path, signal);
    } catch (error) {
      if (!isSftpStatus(error, "noSuchFile")) throw error;
    }
  }
  await checkSftpRoot(session, root, signal);
  return fail("OBJECT_MISSING", `repository ${root.name}: object ${key} is missing`, { metadata: { key } });
}

interface Part {
  readonly handle: Buffer;
  readonly start: number;
  readonly end: number;
  readonly key: string;
  readonly signal: AbortSignal;
}

/** Many pieces are asked for ahead of the reader, and given in order. */
function readPart(place: SftpPlace, part: Part): Readable {
  const { session, root } = place;
  const { handle, start, end, key, signal } = part;
  const ahead: Promise<Buffer>[] = [];
  let asked = start;
  const nextPiece = async (): Promise<Buffer | null> => {
    while (ahead.length < piecesInFlight && asked < end) {
      const piece = readPiece(place, part, asked, Math.min(pieceBytes, end - asked));
      // It is awaited later, and must not count as unhandled until then.
      piece.catch(() => {});
      ahead.push(piece);
      asked += pieceBytes;
    }
    return (await ahead.shift()) ?? null;
  };
  const onAbort = () => stream.destroy(asError(signal.reason));
  const stream = new Readable({
    highWaterMark: pieceBytes,
    read() {
      nextPiece().then(
        (piece) => stream.push(piece),
        async (error: unknown) => {
          const attempt = { doing: "read", name: root.name, path: root.realPath, key } as const;
          stream.destroy(asError(await sftpFailure(error, session, attempt, signal)));
        },
      );
    },
    destroy(error, callback) {
      signal.removeEventListener("abort", onAbort);
      letGo(session, handle);
      callback(error);
    },
  });
  signal.addEventListener("abort", onAbort, { once: true });
  return stream;
}

/** A server may give less than it was asked for, and nothing at the end only. */
async function readPiece(
  { session, root }: SftpPlace,
  { handle, key, signal }: Part,
  offset: number,
  length: number,
): Promise<Buffer> {
  const parts: Buffer[] = [];
  for (let got = 0; got < length;) {
    const part = await readAt(session, handle, { offset: offset + got, length: length - got }, signal);
    if (part.length === 0) {
      throw new Failure("DIGEST_MISMATCH", `repository ${root.name}: object ${key} ended after ${offset + got} bytes`);
    }
    parts.push(part);
    got += part.length;
  }
  return parts.length === 1 && parts[0] ? parts[0] : Buffer.concat(parts);
}

function asError(cause: unknown): Error {
  return cause instanceof Error ? cause : new Error("reading was stopped", { cause });
}
