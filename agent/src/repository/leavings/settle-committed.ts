import type { BackupAddress } from "@coppice/proto/gen/coppice/agent/v1/repository_target";
import type { WorkDone } from "@coppice/proto/gen/coppice/common/v1/progress";
import type { BackupManifest } from "@coppice/proto/gen/coppice/repository/v1/manifest";
import { isFailure } from "@coppice/proto/kit/failure";
import type { Storage } from "../../storage/storage.ts";
import { deleteBackup } from "../delete.ts";
import { type ReadManifest, readManifest } from "../get.ts";
import { backupPrefix, objectKey, recipeName } from "../layout.ts";
import { findLeavings, removeLeavings } from "./leavings.ts";
import { verifyBackup } from "../verify.ts";

/** A backup whose command's answer was lost, and that was committed all the same. */
export interface CommittedBackup {
  readonly manifest: BackupManifest;
  readonly manifestSha256: string;
  /** Everything, the manifest included. */
  readonly storedBytes: bigint;
  readonly recipe: string;
}

/** How a lost backup ended; `committed` undefined: not to its end, and what it left is cleared away. */
export interface SettledBackup {
  readonly committed: CommittedBackup | undefined;
  /** What was found and removed, a line each, for people to read. */
  readonly removed: string[];
}

async function readCommitted(
  storage: Storage,
  address: BackupAddress,
  signal: AbortSignal,
): Promise<ReadManifest | undefined> {
  try {
    return await readManifest(storage, address, signal);
  } catch (error) {
    if (isFailure(error, "MANIFEST_MISSING")) return undefined;
    throw error;
  }
}

async function readRecipe(storage: Storage, prefix: string, signal: AbortSignal): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of await storage.get(objectKey(prefix, recipeName), { signal })) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString("utf8");
}

/**
 * Finds out how a lost backup ended, of whatever kind. It must not be running any more. Committed: everything is read and
 * hashed again. Not committed, or committed and not what was written (a host that crashed): its objects are removed, since
 * nobody was ever told of it. Fails as the storage does, or with what verifying found where that may pass.
 */
export async function settleCommitted(
  storage: Storage,
  {
    address,
    operationId,
    signal,
    onProgress,
  }: {
    address: BackupAddress;
    operationId: string;
    signal: AbortSignal;
    onProgress: (work: WorkDone) => void;
  },
): Promise<SettledBackup> {
  const prefix = backupPrefix({ clusterId: address.clusterId, folder: address.folder });
  const found = await readCommitted(storage, address, signal);
  const removed = await removeLeavings(storage, await findLeavings(storage, { prefix, operationId, signal }), signal);
  if (!found) return { committed: undefined, removed };
  const { failure, result } = await verifyBackup(storage, address, { signal, onProgress });
  if (failure && ["DIGEST_MISMATCH", "OBJECT_MISSING"].includes(failure.reason)) {
    const { objects } = await deleteBackup(storage, address, [], signal);
    return {
      committed: undefined,
      removed: [...removed, `${objects} objects of a damaged backup: ${failure.message}`],
    };
  }
  if (failure) throw failure;
  const recipe = await readRecipe(storage, prefix, signal);
  const { manifest, sha256: manifestSha256 } = found;
  return { committed: { manifest, manifestSha256, storedBytes: result.bytes, recipe }, removed };
}
