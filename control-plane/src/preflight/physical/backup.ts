import { clone, create, fromJson } from "@bufbuild/protobuf";
import { BackupKind } from "@coppice/proto/gen/coppice/common/v1/backup_kind";
import {
  type BaseBackupOptions,
  BaseBackupOptionsSchema,
  IncrementalMethod,
} from "@coppice/proto/gen/coppice/common/v1/base_backup_options";
import { FailureDetailSchema } from "@coppice/proto/gen/coppice/common/v1/failure";
import { type CreateBackupRequest, InstanceChoice } from "@coppice/proto/gen/coppice/control/v1/backup";
import { CreatePhysicalBackupSpecSchema } from "@coppice/proto/gen/coppice/control/v1/physical_operation";
import { fail } from "@coppice/proto/kit/failure";
import { newId } from "@coppice/proto/kit/id";
import type { Database } from "../../catalog/catalog.ts";
import type { ClusterRecord } from "../../catalog/cluster.ts";
import { findWalArchive, type WalArchiveRow } from "../../catalog/physical/wal-archive.ts";
import type { RepositoryRow } from "../../catalog/repository.ts";
import { requireCluster } from "../../inventory/require.ts";
import { formatBackupFolder } from "../backup-folder.ts";
import { backupPlace } from "../server/backup-place.ts";
import type { Prepared } from "../prepared.ts";
import { presentIncarnation } from "../present-incarnation.ts";
import { chooseParent } from "./parent.ts";

/** The first with WAL summaries. */
const firstNativeMajor = 17;

/**
 * Resolves a request for a physical backup. Errors: CLUSTER_NOT_FOUND, INSTANCE_NOT_FOUND, CLUSTER_NOT_CHECKED, REPOSITORY_NOT_FOUND,
 * REPOSITORY_AMBIGUOUS, REPOSITORY_WRONG_HOST, WAL_NOT_ARCHIVED, BACKUP_NOT_FOUND, INCREMENTAL_REFUSED, NOT_SUPPORTED,
 * INVALID_FIELD.
 */
export async function preparePhysicalBackup(
  db: Database,
  request: Pick<CreateBackupRequest, "cluster" | "repository" | "dump" | "physical"> & {
    readonly kind: BackupKind.FULL | BackupKind.INCREMENTAL;
    readonly instance?: InstanceChoice;
  },
  now: Date,
): Promise<Prepared> {
  const { kind, physical: given } = request;
  refuseContradiction(request);
  const cluster = await requireCluster(db, request.cluster);
  const present = presentIncarnation(cluster);
  const { systemIdentifier } = present;
  const isByWal = kind === BackupKind.INCREMENTAL && isMadeOfWal(cluster, present, given);
  const { instance: asked = InstanceChoice.UNSPECIFIED } = request;
  const choice = isByWal ? chooseMarker(asked) : asked;
  const server = await backupPlace(db, cluster, { ...request, instance: choice });
  const { repository } = server;
  const { options, walRepository, refusal } = await chooseWalPlace(db, {
    cluster,
    present,
    repository,
    given,
    isByWal,
  });
  if (isByWal) options.method = IncrementalMethod.WAL;
  const { id: parent, fullReason } =
    kind === BackupKind.INCREMENTAL && refusal === ""
      ? await chooseParent(db, {
          cluster: cluster.row,
          systemIdentifier,
          repository,
          backupId: options.parent,
          isByWal,
        })
      : { id: undefined, fullReason: kind === BackupKind.INCREMENTAL ? refusal : "" };
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
        options,
        backup,
        folder: formatBackupFolder(now, parent === undefined ? "full" : "incremental", backup),
        parent: parent ?? "",
        walRepository,
        fullReason,
        instance: server.instance.id,
        ...(server.standby === undefined ? {} : { standby: server.standby }),
        standbyMissed: server.standbyMissed,
      }),
    },
    hostId: server.host.id,
    clusterId: cluster.row.id,
    repositoryId: repository.id,
    subject: cluster.row,
    // An incremental keeps its parent from being deleted.
    backups: parent === undefined ? [] : [parent],
  };
}

/** A WAL increment ends with a restore point, which only a primary can mark, and reads nothing of the server besides. */
function chooseMarker(choice: InstanceChoice): InstanceChoice {
  if (choice !== InstanceChoice.STANDBY) {
    return choice === InstanceChoice.PREFER_STANDBY ? InstanceChoice.UNSPECIFIED : choice;
  }
  return fail(
    "INVALID_FIELD",
    "an incremental by archived WAL ends with a restore point, which a standby cannot mark",
    {
      hint: "leave --instance out: nothing but that restore point is asked of the primary",
      fields: [{ field: "instance", expected: "not a standby with an incremental by WAL" }],
    },
  );
}

/** The server as it was seen last. */
interface Present {
  readonly major: number;
  readonly systemIdentifier: string;
}

/** Where the WAL from the backup's start to its end goes, without which it could not be restored at all. */
interface WalPlace {
  /** As asked for, with that place in it. */
  readonly options: BaseBackupOptions;
  /** Repository of the archive; empty when it is embedded. */
  readonly walRepository: string;
  /** Why what is backed up of the server now need not follow from what was backed up before; empty where it does. */
  readonly refusal: string;
}

/** What is not asked for is left to the archive where there is one, right where the backup goes, that works. */
async function chooseWalPlace(
  db: Database,
  {
    cluster: { row },
    present: { major, systemIdentifier },
    repository,
    given,
    isByWal,
  }: {
    readonly cluster: ClusterRecord;
    readonly present: Present;
    readonly repository: RepositoryRow;
    readonly given: BaseBackupOptions | undefined;
    /** An incremental of which the archive holds all there is. */
    readonly isByWal: boolean;
  },
): Promise<WalPlace> {
  const options = clone(BaseBackupOptionsSchema, given ?? create(BaseBackupOptionsSchema));
  if (isByWal && options.walEmbedded) {
    fail(
      "INVALID_FIELD",
      `an incremental backup of cluster ${row.name}, of PostgreSQL ${major}, is made of archived WAL`,
      {
        hint: `leave --wal embedded out, or take a full one: coppice backup create ${row.name} --kind full --wal embedded`,
        fields: [{ field: "physical.wal_embedded", expected: "nothing with an incremental by WAL" }],
      },
    );
  }
  const archive = await findWalArchive(db, row.id);
  const refusal = archiveRefusal(archive, systemIdentifier);
  if (options.walEmbedded) return { options, walRepository: "", refusal };
  const problem = archiveProblem(archive, { name: row.name, systemIdentifier, repository });
  if (isByWal) {
    if (problem !== undefined) {
      fail("WAL_NOT_ARCHIVED", `${problem}, and an incremental backup of it is made of archived WAL`, {
        hint: `see to it: coppice wal ${archive === undefined ? "setup" : "status"} ${row.name}; or take a full one: coppice backup create ${row.name} --kind full`,
      });
    }
    options.walArchived = true;
    return { options, walRepository: repository.id, refusal };
  }
  // One that has not begun yet is waited for by who asks for it, and by nobody else.
  const hasBegun = archive !== undefined && archive.timeline !== null;
  if (problem === undefined && (hasBegun || options.walArchived)) {
    options.walArchived = true;
    return { options, walRepository: repository.id, refusal };
  }
  if (problem !== undefined && options.walArchived) {
    fail("WAL_NOT_ARCHIVED", `${problem}, and a backup is to leave its WAL to the archive`, {
      hint: `see to it: coppice wal ${archive === undefined ? "setup" : "status"} ${row.name}; or put the WAL into the backup itself: --wal embedded`,
    });
  }
  options.walEmbedded = true;
  return { options, walRepository: "", refusal };
}

/** Why a backup cannot leave its WAL to the archive; undefined when it can. */
function archiveProblem(
  archive: WalArchiveRow | undefined,
  {
    name,
    systemIdentifier,
    repository,
  }: { readonly name: string; readonly systemIdentifier: string; readonly repository: RepositoryRow },
): string | undefined {
  if (archive === undefined) return `WAL of cluster ${name} is not archived`;
  if (archive.systemIdentifier !== systemIdentifier)
    return `WAL of the present server of cluster ${name} is not archived`;
  if (archive.repositoryId !== repository.id) {
    return `WAL of cluster ${name} is archived in another repository than ${repository.name}`;
  }
  if (archive.nextHostId !== null) return `WAL of cluster ${name} waits to be archived by another agent`;
  if (archive.trouble === null) return undefined;
  const { message } = fromJson(FailureDetailSchema, archive.trouble);
  return `archiving of WAL of cluster ${name} is in trouble, ${message}`;
}

/** Why an archive takes the server for another one than it has archived; empty while it does not. */
function archiveRefusal(archive: WalArchiveRow | undefined, systemIdentifier: string): string {
  if (!archive || archive.trouble === null || archive.systemIdentifier !== systemIdentifier) return "";
  const { reason, message } = fromJson(FailureDetailSchema, archive.trouble, { ignoreUnknownFields: true });
  const isRefused = reason === "WAL_FOREIGN" || reason === "WAL_CONFLICT";
  return isRefused ? `the archive of its WAL refuses the server, ${message}` : "";
}

/** Whether an incremental is made of archived WAL: where that is asked for, and where PostgreSQL knows no other way. */
function isMadeOfWal({ row }: ClusterRecord, { major }: Present, given: BaseBackupOptions | undefined): boolean {
  const isNative = given?.method === IncrementalMethod.NATIVE;
  if (isNative && major < firstNativeMajor) {
    fail("NOT_SUPPORTED", `PostgreSQL ${major} of cluster ${row.name} takes no incremental backups of blocks`, {
      hint: "leave --method out: they are made of archived WAL then",
    });
  }
  return given?.method === IncrementalMethod.WAL || major < firstNativeMajor;
}

function refuseContradiction({ kind, dump, physical }: Pick<CreateBackupRequest, "kind" | "dump" | "physical">): void {
  if (dump !== undefined) {
    fail("INVALID_FIELD", "a physical backup takes no options of a dump", {
      fields: [{ field: "dump", expected: "nothing with the kinds full and incremental" }],
    });
  }
  if (physical?.walEmbedded && physical.walArchived) {
    fail("INVALID_FIELD", "the WAL of a backup is embedded or archived, not both", {
      fields: [{ field: "physical.wal_archived", expected: "nothing with physical.wal_embedded" }],
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
