import { createHash } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import {
  type ScannedBackup,
  ScannedBackupSchema,
  type ScanRepositoryResult,
  ScanRepositoryResultSchema,
} from "@coppice/proto/gen/coppice/agent/v1/scan_repository";
import type { BackupManifest } from "@coppice/proto/gen/coppice/repository/v1/manifest";
import { type WorkDone, WorkDoneSchema } from "@coppice/proto/gen/coppice/common/v1/progress";
import { isFailure } from "@coppice/proto/kit/failure";
import type { Storage } from "../../storage/storage.ts";
import { fetchClusterFile, refusePlace } from "../cluster-file.ts";
import { readChecked } from "../get.ts";
import { backupPrefix, clusterFileKey, manifestKey, objectKey, recipeName } from "../layout.ts";
import { parseManifest } from "../manifest-text.ts";
import { readObject } from "../read-object.ts";
import { type SurveyedBackup, surveyRepository } from "./survey.ts";

/** An answer has to fit into one message of a session. */
const mostAnswerBytes = 32 * 1024 * 1024;

/**
 * Reads what a repository says of itself: its clusters, and the manifests of committed backups that are not known. What
 * cannot be read is named in the result. Fails with REPOSITORY_UNREACHABLE where nothing of what is known is there, and as
 * the storage does where it cannot be listed.
 */
export async function scanRepository(
  storage: Storage,
  {
    knownFolders,
    activeFolders,
    signal,
    onProgress,
  }: {
    knownFolders: readonly string[];
    /** Those of them that need not be there. */
    activeFolders: readonly string[];
    signal: AbortSignal;
    onProgress: (work: WorkDone) => void;
  },
): Promise<ScanRepositoryResult> {
  const { clusterIds, backups, foreign } = await surveyRepository(storage, signal);
  const known = new Set(knownFolders);
  const committed = backups.filter(({ isCommitted }) => isCommitted);
  const unknown = committed.filter(({ clusterId, folder }) => !known.has(`${clusterId}/${folder}`));
  const there = new Set([...committed.map(({ clusterId, folder }) => `${clusterId}/${folder}`), ...activeFolders]);
  const missing = knownFolders.filter((folder) => !there.has(folder));
  const [missed] = missing;
  // A mount that is missing has lost nothing.
  if (missed !== undefined && committed.length === 0 && clusterIds.length === 0)
    refusePlace(storage, missed.split("/")[0] ?? "");
  const result = create(ScanRepositoryResultSchema, {
    missingFolders: missing,
    foreignKeys: [...foreign.keys],
    foreignObjects: BigInt(foreign.objects),
    knownBackups: committed.length - unknown.length,
  });
  const read: Read = async (key, get) => {
    try {
      return await get();
    } catch (error) {
      signal.throwIfAborted();
      if (!isFailure(error) || error.reason === "REPOSITORY_UNREACHABLE") throw error;
      result.unreadable.push(`${key}: ${error.message}`);
      return undefined;
    }
  };
  for (const id of clusterIds) {
    const key = clusterFileKey(id);
    const bytes = await read(key, () => fetchClusterFile(storage, id, signal));
    if (bytes) result.clusterFiles.push(bytes);
  }
  let bytes = 0;
  for (const [index, backup] of unknown.entries()) {
    onProgress(
      create(WorkDoneSchema, {
        phase: "reading",
        item: backup.folder,
        doneItems: index,
        totalItems: unknown.length,
        doneBytes: BigInt(bytes),
      }),
    );
    const key = `${backup.clusterId}/${backup.folder}`;
    const scanned = await read(key, () => readBackup(storage, backup, { signal, read }));
    if (!scanned) continue;
    bytes += scanned.manifest.length + scanned.recipe.length;
    if (bytes > mostAnswerBytes && result.backups.length > 0) {
      result.more = true;
      break;
    }
    result.backups.push(scanned);
  }
  return result;
}

/** What is done with each object: what cannot be read of it is named in the result, and gives nothing. */
type Read = <T>(key: string, get: () => Promise<T>) => Promise<T | undefined>;

async function readBackup(
  storage: Storage,
  backup: SurveyedBackup,
  { signal, read }: { signal: AbortSignal; read: Read },
): Promise<ScannedBackup> {
  const prefix = backupPrefix(backup);
  const bytes = await readObject(storage, manifestKey(prefix), signal);
  // What this version cannot read is named, and left alone.
  const manifest = parseManifest(bytes, manifestKey(prefix));
  const key = objectKey(prefix, recipeName);
  const hasRecipe = backup.objects.some((object) => object.key === key);
  // A recipe that is not the one that was written is run by nobody; the backup itself is none the worse for it.
  const recipe = hasRecipe ? await read(key, () => readRecipe(storage, prefix, { manifest, signal })) : undefined;
  return create(ScannedBackupSchema, {
    manifest: bytes,
    manifestSha256: createHash("sha256").update(bytes).digest("hex"),
    folder: backup.folder,
    recipe: recipe ?? "",
    marks: [...backup.marks],
  });
}

async function readRecipe(
  storage: Storage,
  prefix: string,
  { manifest, signal }: { manifest: BackupManifest; signal: AbortSignal },
): Promise<string> {
  if (!manifest.recipe) return (await readObject(storage, objectKey(prefix, recipeName), signal)).toString("utf8");
  const chunks = await Array.fromAsync(readChecked(storage, { prefix, object: manifest.recipe, signal }));
  return Buffer.concat(chunks).toString("utf8");
}
