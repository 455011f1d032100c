import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import {
  type BackupPhysicalResult,
  BackupPhysicalResultSchema,
} from "@coppice/proto/gen/coppice/agent/v1/backup_physical";
import { BackupKind } from "@coppice/proto/gen/coppice/common/v1/backup_kind";
import { BackupManifestSchema } from "@coppice/proto/gen/coppice/repository/v1/manifest";
import type { PhysicalContent } from "@coppice/proto/gen/coppice/repository/v1/physical_content";
import { recipeName } from "../../repository/layout.ts";
import { manifestObjects } from "../../repository/manifest-objects.ts";
import { commitManifest, storeText } from "../../repository/put.ts";
import type { PreparedBackup } from "./prepare-backup.ts";

/** A backup whose every byte is stored. */
export interface BackupToCommit {
  readonly physical: PhysicalContent;
  /** What a reader of its manifest has to know. */
  readonly features: readonly string[];
  /** The text of RECOVER.txt. */
  readonly recipe: string;
  /** When the server had come to its end, by its clock. */
  readonly endTime: Date;
}

/** Stores RECOVER.txt and, as the last of all, the manifest. Fails as the storage does. */
export async function commitBackup(
  prepared: PreparedBackup,
  { physical, features, recipe, endTime }: BackupToCommit,
): Promise<BackupPhysicalResult> {
  const { request, address, prefix, facts, recipients, clock } = prepared;
  const { command, storage, signal } = request;
  const recipeObject = await storeText(storage, { prefix, key: recipeName, text: recipe, signal });
  const manifest = create(BackupManifestSchema, {
    formatVersion: 1,
    requiredFeatures: [...features],
    backupId: address.backupId,
    kind: physical.parentBackupId === "" ? BackupKind.FULL : BackupKind.INCREMENTAL,
    clusterId: address.clusterId,
    clusterName: command.clusterName,
    systemIdentifier: facts.systemIdentifier,
    serverVersionNum: facts.serverVersionNum,
    operationId: request.operationId,
    startTime: timestampFromDate(clock.time),
    endTime: timestampFromDate(endTime),
    complete: true,
    tools: [...prepared.codecTools],
    agentVersion: request.agentVersion,
    recipe: recipeObject,
    recipients: [...recipients],
    content: { case: "physical", value: physical },
  });
  const committed = await commitManifest(storage, { prefix, manifest, signal });
  const stored = manifestObjects(manifest).reduce((sum, { object }) => sum + object.sizeBytes, 0n);
  return create(BackupPhysicalResultSchema, {
    manifest,
    manifestSha256: committed.sha256,
    storedBytes: stored + BigInt(committed.sizeBytes),
    facts,
    recipe,
  });
}
