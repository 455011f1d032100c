import { create } from "@bufbuild/protobuf";
import { BackupKind } from "@coppice/proto/gen/coppice/common/v1/backup_kind";
import { type BaseBackupOptions, IncrementalMethod } from "@coppice/proto/gen/coppice/common/v1/base_backup_options";
import type { CreateBackupRequest } from "@coppice/proto/gen/coppice/control/v1/backup";
import { CreatePhysicalBackupSpecSchema } from "@coppice/proto/gen/coppice/control/v1/physical_operation";
import { fail } from "@coppice/proto/kit/failure";
import { newId } from "@coppice/proto/kit/id";
import type { Database } from "../../catalog/catalog.ts";
import type { ClusterRecord } from "../../catalog/cluster.ts";
import { findHost } from "../../catalog/host.ts";
import { findWalArchive } from "../../catalog/physical/wal-archive.ts";
import { listRepositories, type RepositoryRow } from "../../catalog/repository.ts";
import { requireCluster, requireHost, requireRepository } from "../../inventory/require.ts";
import { formatBackupFolder } from "../backup-folder.ts";
import { chooseRepository, requireReachable } from "../choose-repository.ts";
import type { Prepared } from "../prepared.ts";
import { primaryInstance } from "../primary-instance.ts";
import { presentIncarnation } from "../present-incarnation.ts";
import { chooseParent } from "./parent.ts";

/** The first with WAL summaries. */
const firstNativeMajor = 17;

/**
 * Resolves a request for a physical backup. Errors: CLUSTER_NOT_FOUND, CLUSTER_NOT_CHECKED, REPOSITORY_NOT_FOUND,
 * REPOSITORY_AMBIGUOUS, REPOSITORY_WRONG_HOST, WAL_NOT_ARCHIVED, BACKUP_NOT_FOUND, INCREMENTAL_REFUSED, NOT_SUPPORTED,
 * INVALID_FIELD.
 */
export async function preparePhysicalBackup(
  db: Database,
  request: Pick<CreateBackupRequest, "cluster" | "repository" | "dump" | "physical"> & {
    readonly kind: BackupKind.FULL | BackupKind.INCREMENTAL;
  },
  now: Date,
): Promise<Prepared> {
  const { kind, physical: options } = request;
  refuseContradiction(request);
  const cluster = await requireCluster(db, request.cluster);
  const host = await requireHost(db, primaryInstance(cluster).hostId);
  const repository =
    request.repository === ""
      ? chooseRepository(await listRepositories(db), host)
      : await requireRepository(db, request.repository);
  requireReachable(repository, await findHost(db, repository.homeHostId ?? ""), host);
  const present = presentIncarnation(cluster);
  const { systemIdentifier } = present;
  const walRepository = await walRepositoryOf(db, { cluster, systemIdentifier, options });
  const parent =
    kind === BackupKind.INCREMENTAL ? await parentOf(db, { cluster, present, repository, options }) : undefined;
  const backup = newId("bkp");
  return {
    operationId: newId("op"),
    spec: {
      case: "createPhysicalBackup",
      value: create(CreatePhysicalBackupSpecSchema, {
        cluster: cluster.row.id,
        clusterName: cluster.row.name,
        kind,
        repository: repository.id,
        repositoryName: repository.name,
        ...(options === undefined ? {} : { options }),
        backup,
        folder: formatBackupFolder(now, kind === BackupKind.FULL ? "full" : "incremental", backup),
        parent: parent ?? "",
        walRepository,
      }),
    },
    hostId: host.id,
    clusterId: cluster.row.id,
    repositoryId: repository.id,
    subject: cluster.row,
    // An incremental keeps its parent from being deleted.
    backups: parent === undefined ? [] : [parent],
  };
}

/**
 * The repository with the WAL from the backup's start to its end, without which it could not be restored at all; empty
 * when that is embedded.
 */
async function walRepositoryOf(
  db: Database,
  {
    cluster: { row },
    systemIdentifier,
    options,
  }: {
    readonly cluster: ClusterRecord;
    readonly systemIdentifier: string;
    readonly options: BaseBackupOptions | undefined;
  },
): Promise<string> {
  if (options?.walEmbedded) return "";
  const archive = await findWalArchive(db, row.id);
  if (archive?.systemIdentifier === systemIdentifier) return archive.repositoryId;
  const what = archive === undefined ? "WAL" : "WAL of the present server";
  return fail("WAL_NOT_ARCHIVED", `${what} of cluster ${row.name} is not archived, and a physical backup needs it`, {
    hint: `archive it: coppice wal setup ${row.name}; or put it into the backup itself: --wal embedded`,
  });
}

async function parentOf(
  db: Database,
  {
    cluster: { row },
    present,
    repository,
    options,
  }: {
    readonly cluster: ClusterRecord;
    readonly present: { readonly major: number; readonly systemIdentifier: string };
    readonly repository: RepositoryRow;
    readonly options: BaseBackupOptions | undefined;
  },
): Promise<string | undefined> {
  if (options?.method === IncrementalMethod.WAL || present.major < firstNativeMajor) {
    const why =
      options?.method === IncrementalMethod.WAL
        ? "incremental backups by archived WAL are not supported yet"
        : `PostgreSQL ${present.major} of cluster ${row.name} keeps no WAL summaries, and incremental backups without them are not supported yet`;
    fail("NOT_SUPPORTED", why, { hint: `take a full one: coppice backup create ${row.name} --kind full` });
  }
  const { systemIdentifier } = present;
  return await chooseParent(db, { cluster: row, systemIdentifier, repository, backupId: options?.parent ?? "" });
}

function refuseContradiction({ kind, dump, physical }: Pick<CreateBackupRequest, "kind" | "dump" | "physical">): void {
  if (dump !== undefined) {
    fail("INVALID_FIELD", "a physical backup takes no options of a dump", {
      fields: [{ field: "dump", expected: "nothing with the kinds full and incremental" }],
    });
  }
  if (kind === BackupKind.INCREMENTAL || physical === undefined) return;
  const { parent, method } = physical;
  if (parent === "" && method === IncrementalMethod.UNSPECIFIED) return;
  const field = parent === "" ? "method" : "parent";
  fail("INVALID_FIELD", `a full backup has no ${field}`, {
    fields: [{ field: `physical.${field}`, expected: "nothing with the kind full" }],
  });
}
