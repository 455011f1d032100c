import type { Readable } from "node:stream";
import type { StoredStream } from "@coppice/proto/gen/coppice/repository/v1/stored_object";
import { openChain } from "../../host/chain.ts";
import { type Codec, encodePrograms, encodingSuffix } from "../../pipeline/stages.ts";
import { storeStream } from "../../repository/put.ts";
import type { Storage } from "../../storage/storage.ts";

/** A stream to encode on this host and to store. */
export interface StreamToEncode {
  /** `backupPrefix` of the backup. */
  readonly prefix: string;
  /** Name of the stream in the backup's folder, without the encoding's ending. */
  readonly name: string;
  /** Destroyed when storing fails; its chunks may be freed. */
  readonly source: Readable;
  readonly codec: Codec;
  /** 0 means the codec's default. */
  readonly level: number;
  /** The source comes compressed by that codec already. */
  readonly isCompressed?: boolean;
  readonly recipients: readonly string[];
  readonly signal: AbortSignal;
  readonly log: (line: string) => void;
}

/** Compresses where that is still to be done, encrypts and stores a stream. Fails as chains and storeStream do. */
export async function storeEncoded(storage: Storage, stream: StreamToEncode): Promise<StoredStream> {
  const { prefix, name, source, codec, level, isCompressed = false, recipients, signal, log } = stream;
  const shape = { codec, encrypted: recipients.length > 0 };
  const target = { prefix, name: name + encodingSuffix(shape), ...shape, signal };
  const programs = encodePrograms({ codec: isCompressed ? "none" : codec, level, recipients });
  if (programs.length === 0) return await storeStream(storage, { ...target, source });
  await using chain = await openChain(programs, {
    signal,
    input: source,
    ownsChunks: true,
    onStderr: (program, line) => log(`${program}: ${line}`),
  });
  const stored = await storeStream(storage, { ...target, source: chain.output });
  await chain.done;
  return stored;
}
