import { PassThrough, pipeline, Readable } from "node:stream";
import { constants, createZstdCompress, createZstdDecompress } from "node:zlib";
import { Failure, fail, isFailure } from "@coppice/proto/kit/failure";
import { openChain } from "../../host/chain.ts";
import { decodePrograms, encodePrograms } from "../../pipeline/stages.ts";

/** How files of WAL are stored. */
export interface WalEncoding {
  /** Level of zstd. */
  readonly level: number;
  /** age recipients; empty means not encrypted. */
  readonly recipients: readonly string[];
}

/** Size of the buffers that are encoded and decoded into; no one else uses such a one. */
export const chunkSize = 1 << 20;
/** WAL compresses as well at the first level as at higher ones that take twice the time. */
const defaultLevel = 1;
const zstdMagic = Buffer.from([0x28, 0xb5, 0x2f, 0xfd]);
const ageMagic = Buffer.from("age-encryption.org/");

/** How the files of an archive are stored, by its settings. */
export function walEncoding({
  settings,
  repository,
}: {
  readonly settings?: { readonly compressionLevel: number } | undefined;
  readonly repository?: { readonly recipients: readonly string[] } | undefined;
}): WalEncoding {
  return { level: settings?.compressionLevel || defaultLevel, recipients: repository?.recipients ?? [] };
}

/** Joins streams so that an error of one, also before anybody reads, is the last one's. */
function join(source: Readable, next: NodeJS.ReadWriteStream & Readable): Readable {
  pipeline(source, next, () => {});
  return next;
}

/** Compresses beside the event loop, with a checksum of the content. */
export function compressWal(plain: Readable, level: number): Readable {
  const { ZSTD_c_compressionLevel, ZSTD_c_checksumFlag } = constants;
  const params = { [ZSTD_c_compressionLevel]: level, [ZSTD_c_checksumFlag]: 1 };
  return join(plain, createZstdCompress({ chunkSize, params }));
}

/** Encrypts what is compressed for the recipients; without any it stays as it is. */
export async function encryptWal(
  compressed: Readable,
  recipients: readonly string[],
  signal: AbortSignal,
): Promise<Readable> {
  if (recipients.length === 0) return compressed;
  const programs = encodePrograms({ codec: "none", level: 0, recipients });
  return (await openChain(programs, { signal, input: compressed })).output;
}

/**
 * The plain bytes of a stored file; how it is encoded its first bytes say. `identities` as decodePrograms takes them.
 * Fails with IDENTITY_MISSING when it is encrypted and there are none, and with CONTENT_UNREADABLE, as the stream too
 * does when the content's checksum is wrong.
 */
export async function decodeWal(
  stored: Readable,
  identities: string | undefined,
  signal: AbortSignal,
): Promise<Readable> {
  const first = await peek(stored);
  try {
    const isEncrypted = first.head.subarray(0, ageMagic.length).equals(ageMagic);
    let compressed = first.whole;
    if (isEncrypted) {
      const programs = decodePrograms({ codec: "none", encrypted: true }, identities);
      compressed = (await openChain(programs, { signal, input: first.whole })).output;
    } else if (!first.head.subarray(0, zstdMagic.length).equals(zstdMagic)) {
      fail("CONTENT_UNREADABLE", "the stored WAL is neither compressed by zstd nor encrypted by age");
    }
    return join(compressed, createZstdDecompress({ chunkSize }));
  } catch (error) {
    first.whole.destroy();
    throw error;
  }
}

/** The first bytes of a stream, and all of it. */
async function peek(stored: Readable): Promise<{ head: Buffer; whole: Readable }> {
  const chunks = stored[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
  const held: Buffer[] = [];
  for (let bytes = 0; bytes < ageMagic.length;) {
    const next = await chunks.next();
    if (next.done) break;
    held.push(next.value);
    bytes += next.value.length;
  }
  const head = Buffer.concat(held);
  async function* whole() {
    if (head.length > 0) yield head;
    for (let next = await chunks.next(); !next.done; next = await chunks.next()) yield next.value;
  }
  return { head, whole: madeOf(stored, whole()) };
}

/** A stream of pieces that are made of a source: that one is let go of with it, also before anybody has read. */
function madeOf(source: Readable, pieces: AsyncIterable<Buffer>): Readable {
  // A generator that was never asked for anything does not come to its own `finally`.
  return Readable.from(pieces, { objectMode: false, highWaterMark: chunkSize }).once("close", () => source.destroy());
}

/** What is to be done about WAL that is damaged: no other backup helps where recovery goes through it. */
export const damagedWalHint =
  "choose a target before it, by --lsn or --at; `coppice wal verify CLUSTER` says what else is damaged";

/** What an error of a stream that decodeWal gave means: CONTENT_UNREADABLE, or IDENTITY_WRONG where age opens nothing by what it got. */
export function toDecodeFailure(error: unknown, key: string): unknown {
  const said = isFailure(error, "PROGRAM_FAILED") ? (error.metadata["stderr"] ?? "") : "";
  if (said.includes("no identity matched"))
    return new Failure(
      "IDENTITY_WRONG",
      `${key} is encrypted to other recipients than the identities given are of, or damaged`,
      {
        hint: "give the identity file of a recipient that the repository had when this was stored: --identity FILE",
        cause: error,
      },
    );
  if (/unknown identity type|malformed secret key|no secret keys found/.test(said))
    return new Failure("IDENTITY_WRONG", `${key} is encrypted, and what was given as identities is none`, {
      hint: "give an age identity file, with a line AGE-SECRET-KEY-1… (a recipient, age1…, only encrypts): --identity FILE",
      cause: error,
    });
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  const isBroken = code.startsWith("ZSTD_") || code === "Z_BUF_ERROR";
  if (!isBroken) return error;
  return new Failure("CONTENT_UNREADABLE", `${key} is damaged: it does not decompress`, {
    hint: damagedWalHint,
    cause: error,
  });
}

/** A stream of what is there already. */
export function readableOf(bytes: Uint8Array): Readable {
  return new PassThrough().end(bytes);
}
