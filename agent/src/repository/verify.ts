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
import { Failure, isFailure } from "@coppice/proto/kit/failure";
import type { Reason } from "@coppice/proto/kit/reasons";
import type { Storage } from "../storage/storage.ts";
import { requireClusterFile } from "./cluster-file.ts";
import { fetchManifest, parseManifestOf, readChecked } from "./get.ts";
import { backupPrefix, manifestKey } from "./layout.ts";
import { manifestObjects } from "./manifest-objects.ts";

/** What a verification found, and the failure that it amounts to. */
export interface Verified {
  readonly result: VerifyBackupResult;
  /** With the reason of the first problem, DIGEST_MISMATCH or OBJECT_MISSING for example; undefined when all is well. */
  readonly failure: Failure | undefined;
}

/** What says something of the backup, not of the storage's being there. */
const problemReasons: readonly Reason[] = [
  "DIGEST_MISMATCH",
  "MANIFEST_MISSING",
  "MANIFEST_UNREADABLE",
  "OBJECT_KEY_REFUSED",
  "OBJECT_MISSING",
  "REPOSITORY_IO_ERROR",
  "REPOSITORY_NOT_READABLE",
];

interface Found {
  readonly problem: ObjectProblem;
  readonly reason: string;
}

/**
 * Re-reads and re-hashes everything a backup consists of. What is wrong with the backup is in the result; it throws
 * only when it could not look (REPOSITORY_UNREACHABLE, FEATURE_UNKNOWN, the signal's reason).
 */
export async function verifyBackup(
  storage: Storage,
  address: BackupAddress,
  { signal, onProgress }: { signal: AbortSignal; onProgress: (work: WorkDone) => void },
): Promise<Verified> {
  const prefix = backupPrefix(address);
  const found: Found[] = [];
  const { manifest, bytes: manifestBytes } = await lookAtManifest(storage, address, signal, found);
  const objects = manifest ? manifestObjects(manifest) : [];
  const totalBytes = objects.reduce((sum, { object }) => sum + object.sizeBytes, 0n);
  let readObjects = manifestBytes === undefined ? 0 : 1;
  let readBytes = 0n;
  const report = throttled(onProgress);

  for (const [index, { object, affects }] of objects.entries()) {
    const work = { phase: "verifying", item: affects, doneItems: index, totalItems: objects.length, totalBytes };
    report(() => create(WorkDoneSchema, { ...work, doneBytes: readBytes }));
    try {
      for await (const chunk of readChecked(storage, { prefix, object, signal })) {
        readBytes += BigInt(chunk.length);
        report(() => create(WorkDoneSchema, { ...work, doneBytes: readBytes }));
      }
      readObjects++;
    } catch (error) {
      signal.throwIfAborted();
      found.push(asFound(error, prefix + object.key, affects));
    }
  }
  onProgress(
    create(WorkDoneSchema, {
      phase: "verifying",
      doneBytes: readBytes,
      totalBytes,
      doneItems: objects.length,
      totalItems: objects.length,
    }),
  );
  const result = create(VerifyBackupResultSchema, {
    objects: readObjects,
    bytes: readBytes + BigInt(manifestBytes ?? 0),
    problems: found.map(({ problem }) => problem),
  });
  return { result, failure: failureOf(found, storage.name, address) };
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
      const message = `it has digest ${sha256} instead of ${address.manifestSha256}`;
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
  return { problem: create(ObjectProblemSchema, { key, message: error.message, affects }), reason: error.reason };
}

function failureOf(found: readonly Found[], repository: string, { backupId }: BackupAddress): Failure | undefined {
  const [first] = found;
  if (!first) return undefined;
  const affected = [...new Set(found.map(({ problem }) => problem.affects))];
  const more = found.length === 1 ? "" : `, and ${found.length - 1} more`;
  return new Failure(first.reason, `backup ${backupId} in ${repository} is damaged: ${first.problem.message}${more}`, {
    metadata: { problems: String(found.length), affects: affected.join(", ").slice(0, 1000) },
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
