import type { StoredStream } from "@coppice/proto/gen/coppice/repository/v1/stored_object";
import { openChain } from "../../host/chain.ts";
import type { Program } from "../../host/program.ts";
import { type Encoding, encodePrograms, encodingSuffix } from "../../pipeline/stages.ts";
import { storeStream } from "../../repository/put.ts";
import type { Storage } from "../../storage/storage.ts";

/** A dump that a program writes to its stdout. */
export interface DumpToStore {
  readonly program: Program;
  /** Key prefix of the backup. */
  readonly prefix: string;
  /** Name of the stream in the backup's folder, without the encoding's ending. */
  readonly name: string;
  readonly encoding: Encoding;
  readonly signal: AbortSignal;
  /** Told from time to time how many bytes the program has written so far, before they are encoded. */
  readonly onWritten: (bytes: number) => void;
  readonly log: (line: string) => void;
}

const askEveryMs = 250;

/**
 * Runs the program, its output piped straight into those that compress and encrypt it, and stores what comes out. It is
 * good only when all have ended well. Fails with PROGRAM_FAILED, or as the storage does; then nothing of it is stored.
 */
export async function storeDump(storage: Storage, dump: DumpToStore): Promise<StoredStream> {
  const { program, prefix, name, encoding, signal, onWritten, log } = dump;
  await using chain = await openChain([program, ...encodePrograms(encoding)], {
    signal,
    onStderr: (_program, line) => log(line),
  });
  let askedAt = -Infinity;
  let encodedBytes = 0;
  const onBytes = (bytes: number) => {
    encodedBytes += bytes;
    const now = performance.now();
    if (now - askedAt < askEveryMs) return;
    askedAt = now;
    // pg_dumpall lets others write; then what came out at the end is the best that is known.
    onWritten(Math.max(chain.writtenByFirst() ?? 0, encodedBytes));
  };
  const shape = { codec: encoding.codec, encrypted: encoding.recipients.length > 0 };
  const stream = await storeStream(storage, {
    prefix,
    name: name + encodingSuffix(shape),
    source: chain.output,
    ...shape,
    signal,
    onBytes,
  });
  await chain.done;
  return stream;
}
