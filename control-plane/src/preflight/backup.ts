import { create } from "@bufbuild/protobuf";
import { BackupKind } from "@coppice/proto/gen/coppice/common/v1/backup_kind";
import type { CreateBackupRequest } from "@coppice/proto/gen/coppice/control/v1/backup";
import { CreateBackupSpecSchema } from "@coppice/proto/gen/coppice/control/v1/operation";
import { fail } from "@coppice/proto/kit/failure";
import { newId } from "@coppice/proto/kit/id";
import type { Database } from "../catalog/catalog.ts";
import { requireCluster } from "../inventory/require.ts";
import { formatBackupFolder } from "./backup-folder.ts";
import { backupPlace } from "./server/backup-place.ts";
import type { Prepared } from "./prepared.ts";
import { preparePhysicalBackup } from "./physical/backup.ts";

/**
 * Resolves a request for a backup. Errors: CLUSTER_NOT_FOUND, INSTANCE_NOT_FOUND, REPOSITORY_NOT_FOUND,
 * REPOSITORY_AMBIGUOUS, REPOSITORY_WRONG_HOST, INVALID_FIELD, and of a physical one those of preparePhysicalBackup.
 */
export async function prepareBackup(db: Database, request: CreateBackupRequest, now: Date): Promise<Prepared> {
  if (request.kind === BackupKind.FULL || request.kind === BackupKind.INCREMENTAL) {
    return preparePhysicalBackup(db, { ...request, kind: request.kind }, now);
  }
  refuseContradiction(request);
  const cluster = await requireCluster(db, request.cluster);
  const { instance, standby, standbyMissed, host, repository } = await backupPlace(db, cluster, request);
  const backup = newId("bkp");
  return {
    operationId: newId("op"),
    spec: {
      case: "createBackup",
      value: create(CreateBackupSpecSchema, {
        cluster: cluster.row.id,
        clusterName: cluster.row.name,
        kind: BackupKind.DUMP,
        repository: repository.id,
        repositoryName: repository.name,
        ...(request.dump === undefined ? {} : { dump: request.dump }),
        backup,
        folder: formatBackupFolder(now, "dump", backup),
        instance: instance.id,
        ...(standby === undefined ? {} : { standby }),
        standbyMissed,
      }),
    },
    hostId: host.id,
    clusterId: cluster.row.id,
    repositoryId: repository.id,
    subject: cluster.row,
    backups: [],
  };
}

function refuseContradiction({ dump, physical }: CreateBackupRequest): void {
  if (physical !== undefined) {
    fail("INVALID_FIELD", "a dump takes no options of a physical backup", {
      fields: [{ field: "physical", expected: "nothing with the kind dump" }],
    });
  }
  const excluded = new Set(dump?.excludeDatabases);
  const both = dump?.databases.find((name) => excluded.has(name));
  if (both === undefined) return;
  fail("INVALID_FIELD", `database ${JSON.stringify(both)} is both asked for and left out`, {
    fields: [{ field: "dump.exclude_databases", expected: "none of dump.databases", value: both }],
  });
}
