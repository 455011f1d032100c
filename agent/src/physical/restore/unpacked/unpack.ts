import { createWriteStream } from "node:fs";
import { lstat, readdir } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import type { StoredStream } from "@coppice/proto/gen/coppice/repository/v1/stored_object";
import { fail, Failure, isFailure } from "@coppice/proto/kit/failure";
import { openChain } from "../../../host/chain.ts";
import type { OsUser } from "../../../host/os-user.ts";
import { decodePrograms } from "../../../pipeline/stages.ts";
import { openStoredFile, openStoredStream } from "../../../repository/get.ts";
import type { ChainLink } from "../chain.ts";
import { syncAlong } from "./sync-along.ts";

/** What a stream is unpacked with. */
export interface Unpacking {
  /** Whose files they become. */
  readonly user: OsUser;
  readonly signal: AbortSignal;
  /** Called with the number of stored bytes read since the last call. */
  readonly onBytes: (bytes: number) => void;
  /** What is unpacked is to be synced later, and not only read. */
  readonly stays?: boolean;
}

/** What programs say of a disk that is full; tar, where a part of its bytes could still be written, only how many. */
const fullDisk = /No space left on device|Disk quota exceeded|Wrote only \d+ of \d+ bytes/;

/** A program that says that its input is wrong speaks of the backup; one that was killed does not. */
function asContentFailure(error: unknown, what: string): unknown {
  if (!isFailure(error, "PROGRAM_FAILED") || error.metadata["exitCode"] === undefined) return error;
  if (fullDisk.test(error.metadata["stderr"] ?? ""))
    return new Failure("SPACE_MISSING", `there was no room for ${what}`, { cause: error });
  return new Failure("CONTENT_UNREADABLE", `${what} cannot be unpacked: ${error.message}`, { cause: error });
}

/**
 * Unpacks a tar of a backup into a folder, digests checked on the way; what is one file of this host the decoder reads by
 * itself, and what it was unpacked to counts once the digest of the same open file was right. By the system's `tar`, which runs as the files'
 * owner and takes its bytes from the decoder's pipe, so that plain data never passes through this process; it writes
 * nothing outside the folder (names that lead out are refused, links that do are made last of all). Links to
 * tablespaces are left out: whoever knows the new places makes them. Fails with DIGEST_MISMATCH, OBJECT_MISSING,
 * CONTENT_UNREADABLE or SPACE_MISSING.
 */
export async function unpackTar(
  { storage, prefix, identities }: ChainLink,
  { stream, folder, what }: { stream: StoredStream; folder: string; what: string },
  { user, signal, onBytes, stays = false }: Unpacking,
): Promise<void> {
  const tar = {
    file: "tar",
    args: [
      "--extract",
      ...(stays ? ["--verbose"] : []),
      "--file=-",
      // What a pipe gives at once, in place of 10 KiB.
      "--blocking-factor=128",
      "--preserve-permissions",
      "--no-same-owner",
      "--delay-directory-restore",
      "--anchored",
      "--exclude=pg_tblspc/*",
      "--exclude=./pg_tblspc/*",
    ],
    user,
    // Of its own option for that it takes backslashes for escapes.
    cwd: folder,
  };
  const programs = [...decodePrograms(stream, identities), tar];
  const read = { prefix, stream, signal, onBytes };
  const file = await openStoredFile(storage, read);
  try {
    const from = file ? { inputFile: file.fd } : { input: openStoredStream(storage, read), ownsChunks: true };
    await using chain = await openChain(programs, { signal, ...from });
    const syncing = stays ? syncAlong(chain.output, folder) : undefined;
    if (!syncing) chain.output.resume();
    await Promise.all([chain.done, syncing, file?.check()]);
  } catch (error) {
    throw asContentFailure(error, what);
  } finally {
    file?.close();
  }
}

/** Decodes a stored stream into a new file (0600) of the agent's own user. Fails as unpackTar. */
export async function unpackFile(
  { storage, prefix, identities }: ChainLink,
  { stream, file, what }: { stream: StoredStream; file: string; what: string },
  { signal, onBytes }: Unpacking,
): Promise<void> {
  const input = openStoredStream(storage, { prefix, stream, signal, onBytes });
  const programs = decodePrograms(stream, identities);
  const output = createWriteStream(file, { flags: "wx", mode: 0o600 });
  if (programs.length === 0) {
    await pipeline(input, output, { signal });
    return;
  }
  try {
    await using chain = await openChain(programs, { signal, input, ownsChunks: true });
    await pipeline(chain.output, output, { signal });
    await chain.done;
  } catch (error) {
    throw asContentFailure(error, what);
  }
}

/** What lies below a folder. */
export interface Tree {
  readonly files: number;
  readonly bytes: bigint;
}

/** One by one the way to a thread and back takes longer than the look. */
const lookedAtOnce = 64;

/**
 * Counts what was unpacked, the folder `apart` in it left out. Fails with CONTENT_UNREADABLE when there is anything but
 * files and folders.
 */
export async function surveyTree(folder: string, apart?: string): Promise<Tree> {
  let [files, bytes] = [0, 0n];
  const folders = [folder];
  const skipped = apart === undefined ? undefined : join(folder, apart);
  for (let next = folders.pop(); next !== undefined; next = folders.pop()) {
    const paths: string[] = [];
    for (const entry of await readdir(next, { withFileTypes: true })) {
      const path = join(next, entry.name);
      if (path === skipped) continue;
      if (entry.isDirectory()) folders.push(path);
      else if (entry.isFile()) paths.push(path);
      else fail("CONTENT_UNREADABLE", `the backup holds ${path.slice(folder.length + 1)}, which is no file`);
    }
    files += paths.length;
    while (paths.length > 0) {
      const looked = await Promise.all(paths.splice(-lookedAtOnce).map((path) => lstat(path, { bigint: true })));
      for (const { size } of looked) bytes += size;
    }
  }
  return { files, bytes };
}
