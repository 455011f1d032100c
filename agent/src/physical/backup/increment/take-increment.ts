import { create } from "@bufbuild/protobuf";
import type { BackupPhysicalResult } from "@coppice/proto/gen/coppice/agent/v1/backup_physical";
import { IncrementalMethod } from "@coppice/proto/gen/coppice/common/v1/base_backup_options";
import { WorkDoneSchema } from "@coppice/proto/gen/coppice/common/v1/progress";
import { PhysicalContentSchema } from "@coppice/proto/gen/coppice/repository/v1/physical_content";
import { fail, Failure, isFailure } from "@coppice/proto/kit/failure";
import { formatLsn, parseLsn } from "@coppice/proto/kit/wal/lsn";
import { openLook } from "../../../postgres/connect.ts";
import { majorOf } from "../../../postgres/majors.ts";
import { hasSqlState } from "../../../postgres/postgres-failure.ts";
import { timeAfter } from "../../../postgres/server-clock.ts";
import { awaitWal } from "../wal/await-wal.ts";
import { commitBackup } from "../commit-backup.ts";
import type { WalParent } from "../parent/choose-wal-parent.ts";
import type { PreparedBackup } from "../prepare-backup.ts";
import { formatIncrementRecipe } from "./increment-recipe.ts";

interface Marked {
  readonly lsn: string;
  readonly system: string;
  readonly timeline: number;
}

const where = `select (select system_identifier::text from pg_control_system()) as system,
  ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int as timeline`;

/** Marks a restore point on the very server that was looked at, and gives the end of its record. */
async function markRestorePoint(
  { endpoint, facts, timeline, request: { signal } }: PreparedBackup,
  name: string,
): Promise<bigint> {
  await using connection = await openLook(endpoint, { signal });
  try {
    const { lsn } = await connection.queryOne<Pick<Marked, "lsn">>("select pg_create_restore_point($1)::text as lsn", [
      name,
    ]);
    const seen = await connection.queryOne<Omit<Marked, "lsn">>(where);
    if (seen.system !== facts.systemIdentifier)
      fail("CLUSTER_CHANGED", `the connection reaches another cluster by now, ${seen.system}`);
    if (seen.timeline !== timeline)
      fail("TIMELINE_CHANGED", `the server went over from timeline ${timeline} to ${seen.timeline} during the backup`);
    return parseLsn(lsn);
  } catch (error) {
    if (!isFailure(error) || !hasSqlState(error, "privilege")) throw error;
    const role = `"${endpoint.user.replaceAll('"', '""')}"`;
    throw new Failure("PRIVILEGE_MISSING", `the role may not mark a restore point: ${error.message}`, {
      hint: `GRANT EXECUTE ON FUNCTION pg_create_restore_point(text), pg_switch_wal() TO ${role} in the database ${JSON.stringify(endpoint.maintenanceDatabase)}; or take a full backup: --kind full`,
      cause: error,
    });
  }
}

/**
 * Takes a WAL increment: a restore point on the primary, and the proof that all WAL from the parent's end to it is in the
 * repository's archive. Nothing is copied: it is restored by replay, from what its parent is restored from. Fails with
 * PRIVILEGE_MISSING, CLUSTER_CHANGED or TIMELINE_CHANGED, as awaitWal does, and as the storage does.
 */
export async function takeIncrement(prepared: PreparedBackup, parent: WalParent): Promise<BackupPhysicalResult> {
  const { request, address, facts, server, options, timeline, recipients, clock, endpoint } = prepared;
  const { command, onProgress } = request;
  // Recovery ends at the first of a name: an attempt that was lost may have left one.
  const restorePoint = `coppice_${address.backupId}_${Date.now().toString(36)}`;
  onProgress(create(WorkDoneSchema, { phase: "marking a restore point", item: restorePoint }));
  const stopLsn = await markRestorePoint(prepared, restorePoint);
  const endTime = await timeAfter(clock, endpoint, request.signal);
  const startLsn = parent.stopLsn;
  if (stopLsn <= startLsn)
    fail("CLUSTER_CHANGED", `the server is at ${formatLsn(stopLsn)}, before the end of ${parent.backupId}`, {
      hint: "take a full backup: --kind full",
    });
  const walBytes = stopLsn - startLsn;
  const end = { is: "restorePoint", name: restorePoint } as const;
  const archivedWal = await awaitWal(prepared, { timeline, startLsn, stopLsn, doneBytes: walBytes, end });
  const physical = create(PhysicalContentSchema, {
    startLsn: formatLsn(startLsn),
    stopLsn: formatLsn(stopLsn),
    parentStopLsn: formatLsn(startLsn),
    restorePoint,
    timeline,
    walSegmentBytes: server.walSegmentBytes,
    dataChecksums: server.dataChecksums,
    hintsLogged: server.logsHints,
    dataBytes: walBytes,
    requiredSettings: { ...server.requiredSettings },
    parentBackupId: parent.backupId,
    method: IncrementalMethod.WAL,
    options: options.given,
    dataDirectory: server.dataDirectory,
    archivedWal,
  });
  const recipe = formatIncrementRecipe({
    clusterName: command.clusterName,
    backupId: address.backupId,
    endTime,
    major: majorOf(facts.serverVersionNum),
    recipients,
    physical,
    systemIdentifier: facts.systemIdentifier,
    parentFolder: parent.folder,
  });
  const features = [...(recipients.length > 0 ? ["age"] : []), "archived-wal", "physical", "wal-increment"];
  return await commitBackup(prepared, { physical, features, recipe, endTime });
}
