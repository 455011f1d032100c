import { create } from "@bufbuild/protobuf";
import type { DeleteBackupRequest } from "@coppice/proto/gen/coppice/control/v1/backup";
import { DeleteBackupSpecSchema } from "@coppice/proto/gen/coppice/control/v1/operation";
import { fail } from "@coppice/proto/kit/failure";
import { newId } from "@coppice/proto/kit/id";
import { lastGoodDumps, listChildren, operationsUsing } from "../catalog/backup.ts";
import { lastGoodPhysicals } from "../catalog/physical/last-good.ts";
import type { Database } from "../catalog/catalog.ts";
import { requireBackup } from "../inventory/require.ts";
import { chooseCopy } from "./choose-copy.ts";
import { chooseWorker } from "./choose-worker.ts";
import type { Prepared } from "./prepared.ts";
import { primaryHost } from "./server/primary-instance.ts";

/**
 * Resolves a request for a deletion. Errors: BACKUP_NOT_FOUND, BACKUP_IN_USE naming the operations, BACKUP_HAS_CHILDREN
 * naming what builds on it, LAST_GOOD_BACKUP unless that is allowed.
 */
export async function prepareDeletion(db: Database, request: DeleteBackupRequest): Promise<Prepared> {
  const backup = await requireBackup(db, request.backup);
  const { id, clusterId } = backup.row;
  const [user] = await operationsUsing(db, id);
  if (user !== undefined) {
    fail("BACKUP_IN_USE", `operation ${user} uses backup ${id}`, {
      hint: `wait for it: coppice op watch ${user}`,
      metadata: { operation: user },
    });
  }
  const children = await listChildren(db, id);
  if (children.length > 0) {
    fail("BACKUP_HAS_CHILDREN", `incremental backups build on ${id}: ${children.join(", ")}`, {
      hint: `delete them first: coppice backup delete ${children.at(-1)}`,
      metadata: { backups: children.join(", ") },
    });
  }
  const physical = (await lastGoodPhysicals(db, { of: "any", clusterIds: [clusterId] })).get(clusterId);
  if (physical?.backupId === id && !request.allowLast) {
    fail("LAST_GOOD_BACKUP", `backup ${id} is the newest good physical one of its cluster`);
  }
  const last = (await lastGoodDumps(db, { of: "any", clusterIds: [clusterId] })).get(clusterId);
  if (last?.backupId === id && !request.allowLast) {
    fail("LAST_GOOD_BACKUP", `backup ${id} is the newest good one of its cluster`);
  }
  const { copy, repository } = await chooseCopy(db, backup, "");
  return {
    operationId: newId("op"),
    spec: {
      case: "deleteBackup",
      value: create(DeleteBackupSpecSchema, { backup: id, repository: repository.id, cluster: clusterId }),
    },
    hostId: (await chooseWorker(db, { repository, preferred: await primaryHost(db, clusterId) })).id,
    clusterId,
    repositoryId: repository.id,
    subject: { id, name: copy.folder },
    backups: [id],
  };
}
