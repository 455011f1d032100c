import { create } from "@bufbuild/protobuf";
import {
  type CleanRepositoryResult,
  CleanRepositoryResultSchema,
} from "@coppice/proto/gen/coppice/agent/v1/scan_repository";
import { formatSize } from "@coppice/proto/kit/size";
import type { Storage, Unfinished } from "../../storage/storage.ts";
import { parseFolderTime, parseObjectOwner } from "../layout.ts";
import { type SurveyedBackup, surveyRepository } from "./survey.ts";

/** What is to be cleaned away. */
export interface Cleaning {
  /** Only what was begun or last written before then. */
  readonly before: Date;
  /** Folders of backups that are known or being written; what is in them is left alone. */
  readonly keptFolders: readonly string[];
  /** Look only. */
  readonly isDryRun: boolean;
  readonly signal: AbortSignal;
}

const shown = 200;

/** Files beside cluster.json and the shared mark, which have no folder of a backup. */
const besideCluster = /^(?:cls_[0-9a-z]+\/)?[^/]+$/;

function isOwn({ key, operationId }: Unfinished): boolean {
  // Only names that we give tell of an operation.
  return parseObjectOwner(key).is !== "foreign" || (operationId !== undefined && besideCluster.test(key));
}

/**
 * Finds what operations that never came to their end have left: folders without a manifest, and unended puts. Removes
 * exactly what it found, unless it only looks; what is foreign stays. Fails as the storage does.
 */
export async function cleanRepository(storage: Storage, cleaning: Cleaning): Promise<CleanRepositoryResult> {
  const { before, keptFolders, isDryRun, signal } = cleaning;
  const kept = new Set(keptFolders);
  const isOld = ({ folder }: SurveyedBackup) => (parseFolderTime(folder)?.getTime() ?? Infinity) < before.getTime();
  const { backups } = await surveyRepository(storage, signal);
  const folders = backups.filter((backup) => !backup.isCommitted && !kept.has(backup.folder) && isOld(backup));
  const unfinished: Unfinished[] = [];
  for await (const one of storage.listUnfinished("", signal)) {
    // What others upload into the same bucket, or a repository within this one, is none of ours to end.
    if (!isOwn(one)) continue;
    const isKept = one.key.split("/").some((name) => kept.has(name));
    if (!isKept && one.modifiedTime.getTime() < before.getTime()) unfinished.push(one);
  }
  const objects = folders.flatMap((folder) => folder.objects);
  const bytes = [...objects, ...unfinished].reduce((sum, { sizeBytes = 0 }) => sum + sizeBytes, 0);
  let removed = 0;
  if (!isDryRun) {
    removed += await storage.deleteMany(
      objects.map(({ key }) => key),
      signal,
    );
    removed += await storage.removeUnfinished(unfinished, signal);
  }
  return create(CleanRepositoryResultSchema, {
    leavings: [
      ...folders.map(
        ({ clusterId, folder, objects: inIt }) =>
          `${clusterId}/backups/${folder}: ${inIt.length} objects, ${formatSize(sizeOf(inIt))}, never committed`,
      ),
      ...unfinished.map(({ id, modifiedTime }) => `${id}: unfinished since ${modifiedTime.toISOString()}`),
    ].slice(0, shown),
    objects: BigInt(objects.length + unfinished.length),
    bytes: BigInt(bytes),
    removed: BigInt(removed),
  });
}

function sizeOf(objects: readonly { readonly sizeBytes: number }[]): bigint {
  return BigInt(objects.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0));
}
