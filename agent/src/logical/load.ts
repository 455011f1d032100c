import { createWriteStream } from "node:fs";
import { chown, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { StoredStream } from "@coppice/proto/gen/coppice/repository/v1/stored_object";
import { fail } from "@coppice/proto/kit/failure";
import { openChain } from "../host/chain.ts";
import type { Program } from "../host/program.ts";
import { decodePrograms } from "../pipeline/stages.ts";
import type { ToolAccess } from "../postgres/tool-access.ts";
import { openStoredStream } from "../repository/get.ts";
import type { Storage } from "../storage/storage.ts";
import { streamCodec } from "./archive-toc.ts";

/** An archive and where it goes. */
export interface ArchiveToLoad {
  readonly prefix: string;
  readonly stream: StoredStream;
  readonly access: ToolAccess;
  /** The database that it goes into. */
  readonly database: string;
  /** Connections at the same time; more than one needs room for the plain archive in the work folder. */
  readonly jobs: number;
  readonly keepsTablespaces: boolean;
  /** Folder of the agent; the user of the tools must be able to enter it when jobs is more than 1. */
  readonly workFolder: string;
  readonly signal: AbortSignal;
  readonly onBytes: (bytes: number) => void;
  readonly log: (line: string) => void;
}

/** Where the plain archive lies while several jobs read it; named for the staged database, so that it can be found again. */
export function workFile(workFolder: string, stagedDatabase: string): string {
  return join(workFolder, `${stagedDatabase}.dump`);
}

/**
 * Loads a stored archive into a database by pg_restore, every object's digest checked on the way; the first error of
 * pg_restore ends it. Fails with PROGRAM_FAILED, DIGEST_MISMATCH, OBJECT_MISSING, SPACE_MISSING,
 * DATA_FOLDER_UNUSABLE, or as the storage does.
 */
export async function loadArchive(storage: Storage, archive: ArchiveToLoad): Promise<void> {
  const args = ["--exit-on-error", ...(archive.keepsTablespaces ? [] : ["--no-tablespaces"])];
  if (archive.jobs > 1) await loadFromFile(storage, archive, args);
  else await loadFromStream(storage, archive, args);
}

/** Runs programs whose end is pg_restore, everything they say on stderr logged as they say it. */
async function runLogged(programs: readonly Program[], archive: ArchiveToLoad, input?: Readable): Promise<void> {
  await using chain = await openChain(programs, {
    signal: archive.signal,
    ...(input === undefined ? {} : { input }),
    onStderr: (program, line) => archive.log(`${program}: ${line.replace(`${program}: `, "")}`),
  });
  chain.output.resume();
  await chain.done;
}

async function loadFromStream(storage: Storage, archive: ArchiveToLoad, args: string[]): Promise<void> {
  const { stream, prefix, access, signal, onBytes } = archive;
  const restore = access.connecting("pg_restore", archive.database, args);
  const input = openStoredStream(storage, { prefix, stream, signal, onBytes });
  await runLogged([...decodePrograms(streamCodec(stream)), restore], archive, input);
}

async function loadFromFile(storage: Storage, archive: ArchiveToLoad, args: string[]): Promise<void> {
  const { stream, prefix, access, signal, onBytes, jobs } = archive;
  const file = workFile(archive.workFolder, archive.database);
  try {
    const input = openStoredStream(storage, { prefix, stream, signal, onBytes });
    const programs = decodePrograms(streamCodec(stream));
    // Made where it is read from at once: the error of a file that cannot be made has to have a listener.
    const openSink = () => createWriteStream(file, { mode: 0o600, flags: "wx" });
    if (programs.length === 0) await pipeline(input, openSink(), { signal });
    else {
      await using chain = await openChain(programs, { signal, input });
      await pipeline(chain.output, openSink(), { signal });
      await chain.done;
    }
    if (access.user) await chown(file, access.user.uid, access.user.gid);
    await runLogged([access.connecting("pg_restore", archive.database, [...args, `--jobs=${jobs}`, file])], archive);
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : undefined;
    if (code === "ENOSPC" || code === "EDQUOT")
      fail("SPACE_MISSING", `the folder ${archive.workFolder} has no room for the plain archive`, {
        hint: "make room there, or restore with one job",
        cause: error,
      });
    if (error instanceof Error && "syscall" in error)
      fail("DATA_FOLDER_UNUSABLE", `the folder ${archive.workFolder} cannot be used: ${String(code)}`, {
        cause: error,
      });
    throw error;
  } finally {
    await rm(file, { force: true });
  }
}
