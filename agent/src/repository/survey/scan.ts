import { createHash } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import {
  type ScannedBackup,
  ScannedBackupSchema,
  type ScanRepositoryResult,
  ScanRepositoryResultSchema,
} from "@coppice/proto/gen/coppice/agent/v1/scan_repository";
import { type WorkDone, WorkDoneSchema } from "@coppice/proto/gen/coppice/common/v1/progress";
import { isFailure } from "@coppice/proto/kit/failure";
import type { Storage } from "../../storage/storage.ts";
import { backupPrefix, clusterFileKey, manifestKey, objectKey, recipeName } from "../layout.ts";
import { parseManifest } from "../manifest-text.ts";
import { readObject } from "../read-object.ts";
import { type SurveyedBackup, surveyRepository } from "./survey.ts";

/** An answer has to fit into one message of a session. */
const mostAnswerBytes = 32 * 1024 * 1024;

/**
 * Reads what a repository says of itself: its clusters, and the manifests of committed backups that are not known. What
 * cannot be read is named in the result. Fails as the storage does where it cannot be listed.
 */
export async function scanRepository(
  storage: Storage,
  {
    knownFolders,
    signal,
    onProgress,
  }: { knownFolders: readonly string[]; signal: AbortSignal; onProgress: (work: WorkDone) => void },
): Promise<ScanRepositoryResult> {
  const { clusterIds, backups, foreign } = await surveyRepository(storage, signal);
  const known = new Set(knownFolders);
  const committed = backups.filter(({ isCommitted }) => isCommitted);
  const unknown = committed.filter(({ clusterId, folder }) => !known.has(`${clusterId}/${folder}`));
  const result = create(ScanRepositoryResultSchema, {
    foreignKeys: [...foreign.keys],
    foreignObjects: BigInt(foreign.objects),
    knownBackups: committed.length - unknown.length,
  });
  const read = async <T>(key: string, get: () => Promise<T>): Promise<T | undefined> => {
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
    const bytes = await read(key, () => readObject(storage, key, signal));
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
    const scanned = await read(key, () => readBackup(storage, backup, signal));
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

async function readBackup(storage: Storage, backup: SurveyedBackup, signal: AbortSignal): Promise<ScannedBackup> {
  const prefix = backupPrefix(backup);
  const manifest = await readObject(storage, manifestKey(prefix), signal);
  // What this version cannot read is named, and left alone.
  parseManifest(manifest, manifestKey(prefix));
  const recipe = objectKey(prefix, recipeName);
  const hasRecipe = backup.objects.some(({ key }) => key === recipe);
  return create(ScannedBackupSchema, {
    manifest,
    manifestSha256: createHash("sha256").update(manifest).digest("hex"),
    folder: backup.folder,
    recipe: hasRecipe ? (await readObject(storage, recipe, signal)).toString("utf8") : "",
    marks: [...backup.marks],
  });
}
