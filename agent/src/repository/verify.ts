import { once } from "node:events";
import { Readable } from "node:stream";
import { create } from "@bufbuild/protobuf";
import type { BackupAddress } from "@coppice/proto/gen/coppice/agent/v1/repository_target";
import {
  type ObjectProblem,
  ObjectProblemSchema,
  type VerifyBackupResult,
  VerifyBackupResultSchema,
} from "@coppice/proto/gen/coppice/agent/v1/verify_backup";
import { type WorkDone, WorkDoneSchema } from "@coppice/proto/gen/coppice/common/v1/progress";
import type { BackupManifest } from "@coppice/proto/gen/coppice/repository/v1/manifest";
import type { StoredStream } from "@coppice/proto/gen/coppice/repository/v1/stored_object";
import { Failure, isFailure } from "@coppice/proto/kit/failure";
import type { Reason } from "@coppice/proto/kit/reasons";
import type { Storage } from "../storage/storage.ts";
import { requireClusterFile } from "./cluster-file.ts";
import { fetchManifest, parseManifestOf, readChecked } from "./get.ts";
import { backupPrefix, manifestKey } from "./layout.ts";
import {
  archivedWalStreams,
  type ManifestObject,
  manifestObjects,
  type ManifestStream,
  manifestStreams,
} from "./manifest-objects.ts";

/** What a verification found, and the failure that it amounts to. */
export interface Verified {
  readonly result: VerifyBackupResult;
  /** Undefined where it could not be read. */
  readonly manifest: BackupManifest | undefined;
  /**
   * With the reason of the first damage, DIGEST_MISMATCH or OBJECT_MISSING for example; REPOSITORY_NOT_READABLE where
   * there is none and something may not be read, which says nothing against it; undefined when all is well.
   */
  readonly failure: Failure | undefined;
}

/**
 * Looks into a stream whose bytes are given, digests checked on the way, and fails with CONTENT_UNREADABLE when they are
 * not what they should be, or with the input's own error.
 */
export type CheckContent = (stream: StoredStream, input: Readable) => Promise<void>;

/** How a backup is verified. */
export interface VerifyOptions {
  readonly signal: AbortSignal;
  readonly onProgress: (work: WorkDone) => void;
  /** Makes the check of the contents of this backup's streams, before any of them is read; without it only digests count. */
  readonly openContent?: (manifest: BackupManifest) => Promise<CheckContent>;
}

/** Why something was not verified that may be whole: it may not be read. It says less than any damage. */
export const unreadReason: Reason = "REPOSITORY_NOT_READABLE";

/** What says something of the backup, not of the storage's being there. */
const problemReasons: readonly Reason[] = [
  "CONTENT_UNREADABLE",
  "DIGEST_MISMATCH",
  "MANIFEST_MISSING",
  "MANIFEST_UNREADABLE",
  "OBJECT_KEY_REFUSED",
  "OBJECT_MISSING",
  "REPOSITORY_IO_ERROR",
  unreadReason,
];

/** An object to read, and where its key begins. */
interface PlacedObject extends ManifestObject {
  readonly prefix: string;
}

interface PlacedStream extends ManifestStream {
  readonly prefix: string;
}

function placedObjects({ stream, affects, prefix }: PlacedStream): PlacedObject[] {
  return stream.objects.map((object) => ({ object, affects, prefix }));
}

interface Found {
  readonly problem: ObjectProblem;
  readonly failure: Failure;
}

/**
 * Re-reads and re-hashes everything a backup consists of, each object once, and looks into it where that is wanted; the
 * files of the WAL archive that it needs are among it. What is wrong with the backup is in the result; it throws only when it could not look (REPOSITORY_UNREACHABLE,
 * FEATURE_UNKNOWN, the signal's reason, or as `openContent`).
 */
export async function verifyBackup(
  storage: Storage,
  address: BackupAddress,
  { signal, onProgress, openContent }: VerifyOptions,
): Promise<Verified> {
  const prefix = backupPrefix(address);
  const found: Found[] = [];
  const { manifest, bytes: manifestBytes } = await lookAtManifest(storage, address, signal, found);
  const archived = manifest ? archivedWalStreams(manifest) : [];
  const own = (manifest ? manifestObjects(manifest) : []).map((object) => ({ ...object, prefix }));
  const objects: PlacedObject[] = [...own, ...archived.flatMap(placedObjects)];
  const checkContent = manifest && (await openContent?.(manifest));
  const work = create(WorkDoneSchema, {
    phase: "verifying",
    totalItems: objects.length,
    totalBytes: objects.reduce((sum, { object }) => sum + object.sizeBytes, 0n),
  });
  const report = throttled(onProgress);
  let readObjects = manifestBytes === undefined ? 0 : 1;

  /** The bytes of an object; when they are wrong it says so in the result and fails. Not read to its end, it counts as not begun. */
  async function* read({ object, affects, prefix: at }: PlacedObject): AsyncGenerator<Buffer, void> {
    const before = { doneBytes: work.doneBytes, doneItems: work.doneItems };
    let isRead = false;
    work.item = affects;
    report(() => work);
    try {
      for await (const chunk of readChecked(storage, { prefix: at, object, signal })) {
        work.doneBytes += BigInt(chunk.length);
        report(() => work);
        yield chunk;
      }
      isRead = true;
      readObjects++;
    } catch (error) {
      isRead = true;
      signal.throwIfAborted();
      found.push(asFound(error, at + object.key, affects));
      throw error;
    } finally {
      if (isRead) work.doneItems++;
      else Object.assign(work, before);
    }
  }

  /** One object after the other, each whatever the others were like. */
  async function readAll(wanted: readonly PlacedObject[]): Promise<void> {
    for (const object of wanted) {
      const problems = found.length;
      try {
        for await (const _ of read(object)) signal.throwIfAborted();
      } catch (error) {
        if (found.length === problems) throw error;
      }
    }
  }

  /** Looks into a stream, and then reads what that did not get to: it stops at the first thing that is wrong. */
  async function readStream(placed: PlacedStream, check: CheckContent): Promise<void> {
    const { stream, affects } = placed;
    const own = placedObjects(placed);
    const problems = found.length;
    let [begun, ended] = [0, 0];
    async function* chunks() {
      for (const object of own) {
        begun++;
        yield* read(object);
        ended++;
      }
    }
    const input = Readable.from(chunks(), { objectMode: false, highWaterMark: 1 << 20 });
    try {
      await check(stream, input);
    } catch (error) {
      if (!input.closed) await once(input.destroy(), "close");
      signal.throwIfAborted();
      if (found.length > problems) return await readAll(own.slice(begun));
      // Not read to its end, so that nothing is known of its digest yet.
      await readAll(own.slice(ended));
      // Wrong bytes say it better than what a program made of them.
      if (found.length === problems) found.push(asFound(error, placed.prefix + (own[0]?.object.key ?? ""), affects));
    }
  }

  if (checkContent && manifest) {
    for (const stream of manifestStreams(manifest)) await readStream({ ...stream, prefix }, checkContent);
    for (const stream of archived) await readStream(stream, checkContent);
    await readAll(own.filter(({ affects, object }) => affects === "recipe" && object === manifest.recipe));
  } else await readAll(objects);
  work.item = "";
  onProgress(work);
  const result = create(VerifyBackupResultSchema, {
    objects: readObjects,
    bytes: work.doneBytes + BigInt(manifestBytes ?? 0),
    problems: found.map(({ problem }) => problem),
  });
  return { result, manifest, failure: failureOf(found, storage.name, address) };
}

async function lookAtManifest(
  storage: Storage,
  address: BackupAddress,
  signal: AbortSignal,
  found: Found[],
): Promise<{ manifest: BackupManifest | undefined; bytes: number | undefined }> {
  const key = manifestKey(backupPrefix(address));
  let size: number | undefined;
  try {
    const { bytes, sha256 } = await fetchManifest(storage, address, signal);
    size = bytes.length;
    if (address.manifestSha256 !== "" && sha256 !== address.manifestSha256) {
      const message = `${key} has digest ${sha256} instead of ${address.manifestSha256}`;
      found.push(asFound(new Failure("DIGEST_MISMATCH", message), key, "all"));
    }
    return { manifest: parseManifestOf(address, bytes), bytes: size };
  } catch (error) {
    signal.throwIfAborted();
    // An empty place says nothing about the backup: its disk may just not be mounted.
    if (isFailure(error, "MANIFEST_MISSING")) await requireClusterFile(storage, address.clusterId, signal);
    found.push(asFound(error, key, "all"));
    return { manifest: undefined, bytes: size };
  }
}

function asFound(error: unknown, key: string, affects: string): Found {
  if (!isFailure(error) || !problemReasons.some((reason) => reason === error.reason)) throw error;
  const isUnread = error.reason === unreadReason;
  return { problem: create(ObjectProblemSchema, { key, message: error.message, affects, isUnread }), failure: error };
}

function failureOf(found: readonly Found[], repository: string, { backupId }: BackupAddress): Failure | undefined {
  const damage = found.find(({ failure }) => failure.reason !== unreadReason);
  const first = damage ?? found[0];
  if (!first) return undefined;
  const affected = [...new Set(found.map(({ problem }) => problem.affects))];
  const more = found.length === 1 ? "" : `, and ${found.length - 1} more`;
  const verdict = damage ? "is damaged" : "could not be read";
  const { reason, hint, message } = first.failure;
  return new Failure(reason, `backup ${backupId} in ${repository} ${verdict}: ${message}${more}`, {
    metadata: { problems: String(found.length), affects: affected.join(", ").slice(0, 1000) },
    // Who has to allow what is known where it was refused.
    ...(damage ? {} : { hint }),
  });
}

const reportEveryMs = 200;

function throttled(onProgress: (work: WorkDone) => void): (work: () => WorkDone) => void {
  let last = -Infinity;
  return (work) => {
    const now = performance.now();
    if (now - last < reportEveryMs) return;
    last = now;
    onProgress(work());
  };
}
