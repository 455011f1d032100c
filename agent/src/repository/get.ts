import { createHash } from "node:crypto";
import { Readable } from "node:stream";
import type { BackupAddress } from "@coppice/proto/gen/coppice/agent/v1/repository_target";
import type { BackupManifest } from "@coppice/proto/gen/coppice/repository/v1/manifest";
import type { StoredObject, StoredStream } from "@coppice/proto/gen/coppice/repository/v1/stored_object";
import { fail, isFailure } from "@coppice/proto/kit/failure";
import { freeChunk } from "../host/free-chunk.ts";
import { openDigest } from "../pipeline/digest.ts";
import type { Storage } from "../storage/storage.ts";
import { backupPrefix, manifestKey, objectKey } from "./layout.ts";
import { parseManifest } from "./manifest-text.ts";
import { readObject } from "./read-object.ts";

/** A manifest as it lies in the repository. */
export interface ReadManifest {
  readonly manifest: BackupManifest;
  /** SHA-256 of its text, lower-case hexadecimal. */
  readonly sha256: string;
  readonly text: string;
}

/**
 * Reads the manifest of a backup. Fails with MANIFEST_MISSING, MANIFEST_UNREADABLE, FEATURE_UNKNOWN naming the
 * feature, or DIGEST_MISMATCH when the address says which digest it has to have.
 */
export async function readManifest(
  storage: Storage,
  address: BackupAddress,
  signal: AbortSignal,
): Promise<ReadManifest> {
  const key = manifestKey(backupPrefix(address));
  const { bytes, sha256 } = await fetchManifest(storage, address, signal);
  if (address.manifestSha256 !== "" && address.manifestSha256 !== sha256) {
    fail("DIGEST_MISMATCH", `${key} has digest ${sha256} instead of ${address.manifestSha256}`);
  }
  return { manifest: parseManifestOf(address, bytes), sha256, text: bytes.toString("utf8") };
}

/** The bytes of a backup's manifest, not looked into. Fails with MANIFEST_MISSING. */
export async function fetchManifest(
  storage: Storage,
  address: BackupAddress,
  signal: AbortSignal,
): Promise<{ bytes: Buffer; sha256: string }> {
  const key = manifestKey(backupPrefix(address));
  try {
    const bytes = await readObject(storage, key, signal);
    return { bytes, sha256: createHash("sha256").update(bytes).digest("hex") };
  } catch (error) {
    if (!isFailure(error, "OBJECT_MISSING")) throw error;
    return fail("MANIFEST_MISSING", `repository ${storage.name}: ${key} is missing`, { cause: error });
  }
}

/** Parses the manifest found at an address, as parseManifest; another backup's is MANIFEST_UNREADABLE. */
export function parseManifestOf(address: BackupAddress, bytes: Uint8Array): BackupManifest {
  const key = manifestKey(backupPrefix(address));
  const manifest = parseManifest(bytes, key);
  if (manifest.backupId !== address.backupId || manifest.clusterId !== address.clusterId) {
    fail("MANIFEST_UNREADABLE", `${key} belongs to backup ${manifest.backupId} of cluster ${manifest.clusterId}`);
  }
  return manifest;
}

/** Chunks of an object that are digested while earlier ones are worked on. */
const mostAhead = 3;

/** A stored stream to read. */
export interface StreamToRead {
  /** `backupPrefix` of the backup. */
  readonly prefix: string;
  readonly stream: StoredStream;
  readonly signal: AbortSignal;
  /** Called with the number of bytes read since the last call. */
  readonly onBytes?: (bytes: number) => void;
}

/**
 * The bytes of a stored stream. Size and digest of each object are checked on the way, and the stream ends cleanly
 * only when all are right: otherwise it is destroyed with OBJECT_MISSING or DIGEST_MISMATCH.
 */
export function openStoredStream(storage: Storage, { prefix, stream, signal, onBytes }: StreamToRead): Readable {
  async function* chunks() {
    for (const object of stream.objects) {
      for await (const chunk of readChecked(storage, { prefix, object, signal })) {
        onBytes?.(chunk.length);
        yield chunk;
      }
    }
  }
  return Readable.from(chunks(), { objectMode: false, highWaterMark: 1 << 20 });
}

/** A stored stream that is one file of this host. */
export interface StoredFile {
  /** For a program to read by itself, which is started before `check`; open until that is over, or `close`. */
  readonly fd: number;
  /** Reads the same file to its end. Fails with DIGEST_MISMATCH: then nothing counts that was made of it. */
  check(): Promise<void>;
  close(): void;
}

/**
 * Opens a stored stream for a program that reads its file by itself; undefined where it is not one file, or one of
 * another size than it should have. Fails with OBJECT_MISSING.
 */
export async function openStoredFile(
  storage: Storage,
  { prefix, stream, signal, onBytes }: StreamToRead,
): Promise<StoredFile | undefined> {
  const [object, ...more] = stream.objects;
  if (!object || more.length > 0 || !storage.getFile) return undefined;
  const key = objectKey(prefix, object.key);
  if ((await storage.stat(key, signal))?.sizeBytes !== Number(object.sizeBytes)) return undefined;
  const { fd, bytes } = await storage.getFile(key, signal);
  return {
    fd,
    async check() {
      for await (const chunk of digested(bytes, key, object)) {
        onBytes?.(chunk.length);
        freeChunk(chunk);
      }
    },
    close: () => void bytes.destroy(),
  };
}

/**
 * The bytes of one object, which end only when its size and digest were right. Fails with OBJECT_MISSING or
 * DIGEST_MISMATCH; `metadata.key` is the object's.
 */
export async function* readChecked(
  storage: Storage,
  { prefix, object, signal }: { prefix: string; object: StoredObject; signal: AbortSignal },
): AsyncGenerator<Buffer, void> {
  const key = objectKey(prefix, object.key);
  yield* digested(await storage.get(key, { signal }), key, object);
}

async function* digested(source: Readable, key: string, object: StoredObject): AsyncGenerator<Buffer, void> {
  const metadata = { key };
  await using digest = openDigest(Number(object.sizeBytes));
  const ahead: Promise<Buffer>[] = [];
  let size = 0;
  for await (const chunk of source as AsyncIterable<Buffer>) {
    size += chunk.length;
    // More than there should be is not handed on.
    if (size > Number(object.sizeBytes)) break;
    const updating = digest.update(chunk);
    // It is waited for below, unless the reader leaves.
    updating.catch(() => {});
    ahead.push(updating);
    const first = ahead.length > mostAhead ? ahead.shift() : undefined;
    if (first) yield await first;
  }
  for (const each of ahead) yield await each;
  if (size !== Number(object.sizeBytes)) {
    const seen = size > Number(object.sizeBytes) ? "more" : String(size);
    fail("DIGEST_MISMATCH", `object ${key} has ${seen} bytes instead of ${object.sizeBytes}`, { metadata });
  }
  const sha256 = await digest.digest();
  if (sha256 !== object.sha256) {
    fail("DIGEST_MISMATCH", `object ${key} has digest ${sha256} instead of ${object.sha256}`, { metadata });
  }
}
