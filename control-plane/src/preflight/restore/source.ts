import { fromJson } from "@bufbuild/protobuf";
import { BackupManifestSchema, type DumpContent } from "@coppice/proto/gen/coppice/repository/v1/manifest";
import { fail } from "@coppice/proto/kit/failure";
import { type BackupRecord, lastGoodDumps, listBackups } from "../../catalog/backup.ts";
import type { Database } from "../../catalog/catalog.ts";
import type { ClusterRow } from "../../catalog/cluster.ts";
import { lastGoodPhysicals } from "../../catalog/physical/last-good.ts";
import { findHost, type HostRow } from "../../catalog/host.ts";
import type { RepositoryRow } from "../../catalog/repository.ts";
import { requireBackup } from "../../inventory/require.ts";
import { mayDecrypt, requireMayDecrypt } from "../../secrets/may-decrypt.ts";
import { placeCopies } from "../choose-copy.ts";
import { isReachable, requireReachable } from "../choose-repository.ts";

/** What a restore reads: a backup, what its manifest says of it, and the repository whose copy the host reads. */
export interface RestoreSource {
  readonly backup: string;
  readonly dump: DumpContent;
  readonly repository: RepositoryRow;
}

/**
 * The backup of that id, or the last good one of the cluster, for a host that is to read it. Errors: BACKUP_NOT_FOUND,
 * INVALID_FIELD, REPOSITORY_WRONG_HOST, HOST_MAY_NOT_DECRYPT, IDENTITY_MISSING.
 */
export async function chooseSource(
  db: Database,
  { cluster, backupId, host }: { readonly cluster: ClusterRow; readonly backupId: string; readonly host: HostRow },
): Promise<RestoreSource> {
  const backup = await chooseBackup(db, cluster, backupId);
  const { content } = fromJson(BackupManifestSchema, backup.row.manifest, { ignoreUnknownFields: true });
  if (content.case !== "dump") {
    return fail(
      "INVALID_FIELD",
      `backup ${backup.row.id} is a physical one: without a point in time no single database comes of it`,
      {
        hint: fromPhysical(cluster.name, `--backup ${backup.row.id}`, "--immediate"),
        fields: [{ field: "restore.backup", expected: "a dump", value: backup.row.id }],
      },
    );
  }
  return { backup: backup.row.id, dump: content.value, repository: await chooseRepository(db, backup, host) };
}

/** What a physical backup is good for: a point in time, of a database or of everything. */
function fromPhysical(cluster: string, which: string, point: string): string {
  const words = ["coppice restore create", cluster, which].filter((word) => word !== "").join(" ");
  return `name the point at which the database is wanted: ${words} --database NAME --as COPY ${point} (or --at TIME); or restore all of it into an empty directory with --to HOST:/directory`;
}

async function chooseBackup(db: Database, cluster: ClusterRow, id: string): Promise<BackupRecord> {
  if (id !== "") {
    const backup = await requireBackup(db, id);
    if (backup.row.clusterId === cluster.id) return backup;
    return fail("BACKUP_NOT_FOUND", `backup ${id} is not one of cluster ${cluster.name}`);
  }
  const last = (await lastGoodDumps(db, { of: "any", clusterIds: [cluster.id] })).get(cluster.id);
  if (last !== undefined) return requireBackup(db, last.backupId);
  if ((await lastGoodPhysicals(db, { of: "any", clusterIds: [cluster.id] })).has(cluster.id)) {
    return fail(
      "BACKUP_NOT_FOUND",
      `cluster ${cluster.name} has no good dump; of its physical backups no single database comes without a point in time`,
      { hint: fromPhysical(cluster.name, "", "--latest") },
    );
  }
  const [some] = await listBackups(db, { clusterId: cluster.id, limit: 1 });
  return fail("BACKUP_NOT_FOUND", `cluster ${cluster.name} has no ${some === undefined ? "" : "good "}backup`, {
    hint:
      some === undefined
        ? `take one: coppice backup create ${cluster.name}`
        : `look for one that holds the database: coppice backup list --cluster ${cluster.name}, and name it with --backup`,
  });
}

/** Refuses a database that the backup lacks. Errors: DATABASE_NOT_IN_BACKUP. */
export function requireDatabase({ backup, dump: { databases, missing } }: RestoreSource, name: string): void {
  if (databases.some((database) => database.name === name)) return;
  const why = missing.find((database) => database.name === name)?.message ?? "";
  const held = databases.slice(0, 20).map((database) => JSON.stringify(database.name));
  fail(
    "DATABASE_NOT_IN_BACKUP",
    `backup ${backup} does not hold database ${JSON.stringify(name)}${why === "" ? "" : `: ${why}`}`,
    { hint: held.length === 0 ? "it holds no database" : `it holds ${held.join(", ")}` },
  );
}

/**
 * Of a copy that the host reaches, an undamaged one first, and one that it can read. One whose deletion did not come to
 * its end may be whole still: its manifest, which goes first, says so. While a deletion runs its lease keeps others away.
 */
async function chooseRepository(db: Database, backup: BackupRecord, host: HostRow): Promise<RepositoryRow> {
  const placed = await placeCopies(db, backup);
  const reachable = placed.filter(({ repository }) => isReachable(repository, host.id));
  const isStored = ({ copy }: (typeof placed)[number]) => copy.state === "STORED";
  const isReadable = ({ repository: { encryption, identitySecretId } }: (typeof placed)[number]) =>
    encryption === null || (mayDecrypt(host) && identitySecretId !== null);
  const readable = reachable.filter(isReadable);
  const chosen = readable.find(isStored) ?? readable[0] ?? reachable.find(isStored) ?? reachable[0];
  if (chosen !== undefined) {
    requireMayDecrypt(chosen.repository, host);
    return chosen.repository;
  }
  const [other] = placed;
  if (other === undefined) return fail("BACKUP_NOT_FOUND", `backup ${backup.row.id} has no copy`);
  const home = await findHost(db, other.repository.homeHostId ?? "");
  const homeName = home?.name ?? "its home host";
  requireReachable(
    other.repository,
    home,
    host,
    `restore into a cluster of ${homeName}, or take a backup into a repository that ${host.name} reaches`,
  );
  return other.repository;
}
