import type { StoredStream } from "@coppice/proto/gen/coppice/repository/v1/stored_object";
import { openChain } from "../host/chain.ts";
import type { Program } from "../host/program.ts";
import { encodePrograms } from "../pipeline/stages.ts";
import { storeStream } from "../repository/put.ts";
import type { Storage } from "../storage/storage.ts";

/** A dump that a program writes to its stdout. */
export interface DumpToStore {
  readonly program: Program;
  /** Key prefix of the backup. */
  readonly prefix: string;
  /** Name of the stream in the backup's folder, without the codec's ending. */
  readonly name: string;
  /** zstd's level; 0 means 3. */
  readonly level: number;
  readonly signal: AbortSignal;
  readonly onBytes: (bytes: number) => void;
  readonly log: (line: string) => void;
}

/**
 * Runs the program, its output piped straight into zstd, and stores what comes out. It is good only when both have
 * ended well. Fails with PROGRAM_FAILED, or as the storage does; then nothing of it is stored.
 */
export async function storeDump(storage: Storage, dump: DumpToStore): Promise<StoredStream> {
  const { program, prefix, name, level, signal, onBytes, log } = dump;
  await using chain = await openChain([program, ...encodePrograms("zstd", level)], {
    signal,
    onStderr: (_program, line) => log(line),
  });
  const stream = await storeStream(storage, {
    prefix,
    name: `${name}.zst`,
    source: chain.output,
    codec: "zstd",
    signal,
    onBytes,
  });
  await chain.done;
  return stream;
}
