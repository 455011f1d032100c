import type { Readable } from "node:stream";
import { fail } from "@coppice/proto/kit/failure";
import type { DumpedDatabase } from "@coppice/proto/gen/coppice/repository/v1/manifest";
import { openChain } from "../../host/chain.ts";
import type { Program } from "../../host/program.ts";
import type { ArchiveContents } from "../archive/contents.ts";

/** How the bytes of a source are read. */
export interface Reading {
  readonly signal: AbortSignal;
  /** Called with the number of stored bytes read since the last call. */
  readonly onBytes?: ((bytes: number) => void) | undefined;
}

/** Stored bytes and the programs that decode them. */
export interface Encoded {
  readonly input: Readable;
  readonly programs: readonly Program[];
}

/** One database's dump, wherever it is, looked at as far as it can be without reading it whole. */
export interface RestoreSource {
  /** For messages: "the backup bkp_1", "the file /x.sql". */
  readonly title: string;
  readonly format: "custom" | "tar" | "directory" | "plain";
  /** Table of contents of an archive; undefined for plain SQL. */
  readonly contents: ArchiveContents | undefined;
  /** Whether it is plain SQL of pg_dumpall, of several databases. */
  readonly isCluster: boolean;
  /** What the manifest says of the database; undefined for a file. */
  readonly dumped: DumpedDatabase | undefined;
  /** What its options kept out of it, for people; empty when nothing, and for a file. */
  readonly leftOut: readonly string[];
  /** 0 where it is not known. */
  readonly serverMajor: number;
  /** Major of the pg_dump that made it; 0 where it is not known. */
  readonly toolMajor: number;
  readonly storedBytes: bigint;
  /** Folder of an archive in directory format, which pg_restore reads itself. */
  readonly folder: string | undefined;
  /** Opens the stored bytes of any other format. */
  open(reading: Reading): Encoded;
}

/** A source's bytes, decoded. */
export interface Decoded extends AsyncDisposable {
  /** Ends cleanly only when everything was read and was right. */
  readonly output: Readable;
}

/** Decodes stored bytes; whoever disposes of it early has read enough. */
export async function openDecoded({ input, programs }: Encoded, signal: AbortSignal): Promise<Decoded> {
  if (programs.length > 0) return await openChain(programs, { signal, input, ownsChunks: true, mayStopEarly: false });
  return {
    output: input,
    [Symbol.asyncDispose]: () => {
      // What is destroyed early has nothing more to say.
      input.on("error", () => {});
      input.destroy();
      return Promise.resolve();
    },
  };
}

/** The bytes of a source that is no folder. */
export function openSource(source: RestoreSource, reading: Reading): Encoded {
  if (source.folder !== undefined) fail("INTERNAL", `${source.title} is a folder, which pg_restore reads itself`);
  return source.open(reading);
}
