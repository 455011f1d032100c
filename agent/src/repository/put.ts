import { createHash } from "node:crypto";
import type { Readable } from "node:stream";
import { create } from "@bufbuild/protobuf";
import type { BackupManifest } from "@coppice/proto/gen/coppice/repository/v1/manifest";
import {
  type StoredObject,
  StoredObjectSchema,
  type StoredStream,
  StoredStreamSchema,
} from "@coppice/proto/gen/coppice/repository/v1/stored_object";
import { fail, Failure, isFailure } from "@coppice/proto/kit/failure";
import { pump } from "../pipeline/pump.ts";
import type { Codec } from "../pipeline/stages.ts";
import { lookIfAllowed, unseen } from "../storage/look-if-allowed.ts";
import type { Storage } from "../storage/storage.ts";
import { formatStreamObjectName, manifestKey, objectKey } from "./layout.ts";
import { manifestObjects } from "./manifest-objects.ts";
import { formatManifest, parseManifest } from "./manifest-text.ts";
import { readObject } from "./read-object.ts";

/** A stream to store. */
export interface StreamToStore {
  /** `backupPrefix` of the backup. */
  readonly prefix: string;
  /** Name of the stream relative to the backup's folder, for example db/16384.dump.zst. */
  readonly name: string;
  /** Its encoded bytes; a chain's output, whose clean end is a whole stream. It is destroyed when storing fails; its chunks may be freed. */
  readonly source: Readable;
  /** How they are encoded; only recorded. */
  readonly codec: Codec;
  readonly encrypted: boolean;
  /** Size at which a new object begins; 512 GiB when left out. */
  readonly limitBytes?: number;
  readonly signal: AbortSignal;
  /** Called with the number of bytes taken since the last call. */
  readonly onBytes?: (bytes: number) => void;
}

/** Size at which a stream goes on in another object, in bytes. */
export const largestObjectBytes = 2 ** 39;
const cleanupMs = 30_000;
const readBackMs = 60_000;
/** Who cancels does not wait for a storage that does not answer. */
const cancelledReadBackMs = 5_000;

/**
 * Stores a stream as numbered objects, each digested on its way, and durable when it resolves. When it fails it deletes
 * again what it has stored, and fails with its own first cause or the source's.
 */
export async function storeStream(storage: Storage, stream: StreamToStore): Promise<StoredStream> {
  const {
    prefix,
    name,
    source,
    codec,
    encrypted,
    limitBytes = largestObjectBytes,
    signal,
    onBytes = () => {},
  } = stream;
  const nameOf = (index: number) => formatStreamObjectName({ stream: name, index });
  const stored: string[] = [];
  try {
    const objects = await pump(source, {
      limitBytes,
      onBytes,
      async store(index, body) {
        const key = objectKey(prefix, nameOf(index));
        const put = await storage.put(key, body, { signal, ifAbsent: true, ownsChunks: true });
        stored.push(key);
        return put;
      },
    });
    return create(StoredStreamSchema, {
      codec,
      encrypted,
      objects: objects.map(({ sizeBytes, sha256 }, index) => ({
        key: nameOf(index),
        sizeBytes: BigInt(sizeBytes),
        sha256,
      })),
    });
  } catch (error) {
    await deleteStored(storage, stored);
    throw error;
  }
}

/** Also after an abort, so under a time of its own; what it cannot delete `findLeavings` finds. */
async function deleteStored(storage: Storage, keys: readonly string[]): Promise<void> {
  await Promise.allSettled([storage.deleteMany(keys, AbortSignal.timeout(cleanupMs))]);
}

/** Stores a small text as one object; `key` is relative to the backup's folder. */
export async function storeText(
  storage: Storage,
  { prefix, key, text, signal }: { prefix: string; key: string; text: string; signal: AbortSignal },
): Promise<StoredObject> {
  const bytes = Buffer.from(text, "utf8");
  await storage.put(objectKey(prefix, key), only(bytes), { signal, ifAbsent: true });
  return create(StoredObjectSchema, { key, sizeBytes: BigInt(bytes.length), sha256: sha256Of(bytes) });
}

/**
 * Commits a backup: checks that every object of the manifest is there in its size, puts manifest.json and reads it
 * back, as far as this host may look: see lookIfAllowed. An abort counts until the manifest is there, and no more afterwards. Repeating it with the same manifest is no
 * error. Gives the manifest's own digest and size. Fails with OBJECT_MISSING, DIGEST_MISMATCH, OBJECT_EXISTS when
 * another manifest is there, OUTCOME_UNKNOWN when the storage was lost and nobody can tell, or as the storage does.
 */
export async function commitManifest(
  storage: Storage,
  { prefix, manifest, signal }: { prefix: string; manifest: BackupManifest; signal: AbortSignal },
): Promise<{ sha256: string; sizeBytes: number }> {
  for (const { object } of manifestObjects(manifest)) {
    const key = objectKey(prefix, object.key);
    const found = await lookIfAllowed(storage, () => storage.stat(key, signal));
    if (found === unseen) break;
    if (!found) fail("OBJECT_MISSING", `object ${key} is missing before its manifest was written`);
    if (BigInt(found.sizeBytes) !== object.sizeBytes) {
      fail("DIGEST_MISMATCH", `object ${key} has ${found.sizeBytes} bytes instead of ${object.sizeBytes}`);
    }
  }
  const key = manifestKey(prefix);
  const bytes = Buffer.from(formatManifest(manifest), "utf8");
  // One that we could not read ourselves must not be committed.
  parseManifest(bytes, key);
  const committed = { sha256: sha256Of(bytes), sizeBytes: bytes.length };
  let clash: Failure | undefined;
  try {
    clash = await putUnlessThere(storage, key, bytes, signal);
  } catch (error) {
    // Its answer may be all that was lost.
    const found = mayHaveBeenPut(error, signal) ? await readBack(storage, key, signal, error) : undefined;
    if (found === unseen) lost(storage, key, error);
    if (found?.equals(bytes)) return committed;
    throw error;
  }
  // From here on it is a backup: "cancelled" would be untrue, and nobody would know that it is there.
  const found = await readBack(storage, key, signal);
  // A key that is taken may be so by this very put, whose answer was lost.
  if (found === unseen) return clash ? lost(storage, key, clash) : committed;
  if (found?.equals(bytes)) return committed;
  throw clash ?? new Failure("DIGEST_MISMATCH", `${key} reads back differently than it was written`);
}

/** A storage that refuses has not put anything; one that was lost, or left in the middle, may have. */
function mayHaveBeenPut(error: unknown, signal: AbortSignal): boolean {
  return signal.aborted || isFailure(error, "REPOSITORY_UNREACHABLE") || isFailure(error, "REPOSITORY_IO_ERROR");
}

/** What lies at the key now. Not under the operation's own signal; fails with OUTCOME_UNKNOWN when nobody can tell. */
async function readBack(
  storage: Storage,
  key: string,
  signal: AbortSignal,
  cause?: unknown,
): Promise<Buffer | typeof unseen | undefined> {
  const by = AbortSignal.timeout(signal.aborted ? cancelledReadBackMs : readBackMs);
  try {
    return await lookIfAllowed(storage, () => readObject(storage, key, by));
  } catch (error) {
    if (isFailure(error, "OBJECT_MISSING")) return undefined;
    return lost(storage, key, cause ?? error);
  }
}

function lost({ name }: Storage, key: string, cause: unknown): never {
  return fail("OUTCOME_UNKNOWN", `${name} was lost while ${key} was put there`, { cause });
}

/** The failure of a key that is taken, undefined when the object was put. */
async function putUnlessThere(storage: Storage, key: string, bytes: Buffer, signal: AbortSignal) {
  try {
    await storage.put(key, only(bytes), { signal, ifAbsent: true });
    return undefined;
  } catch (error) {
    if (isFailure(error, "OBJECT_EXISTS")) return error;
    throw error;
  }
}

async function* only(bytes: Uint8Array): AsyncGenerator<Uint8Array, void> {
  yield bytes;
}

function sha256Of(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}
