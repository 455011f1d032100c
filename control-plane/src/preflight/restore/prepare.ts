import type { CreateRestoreSpec } from "@coppice/proto/gen/coppice/control/v1/operation";
import type { RestoreRequest } from "@coppice/proto/gen/coppice/control/v1/restore";
import { fail } from "@coppice/proto/kit/failure";
import { newId } from "@coppice/proto/kit/id";
import type { Database } from "../../catalog/catalog.ts";
import type { ClusterRecord } from "../../catalog/cluster.ts";
import type { HostRow } from "../../catalog/host.ts";
import { requireCluster, requireHost } from "../../inventory/require.ts";
import type { Prepared } from "../prepared.ts";
import { primaryInstance } from "../primary-instance.ts";
import { globalsSpec, planCluster } from "./cluster.ts";
import { type DatabaseRestore, exclusiveKeyOf, restoreSpec } from "./database.ts";
import { weighRequest } from "./request.ts";
import { chooseSource, requireDatabase } from "./source.ts";

/**
 * Resolves what to restore and where to: one database, the globals, or a cluster, which is a group. Errors: INVALID_FIELD,
 * CLUSTER_NOT_FOUND, BACKUP_NOT_FOUND also when the cluster has no good one, DATABASE_NOT_IN_BACKUP, DATABASE_EXISTS,
 * REPOSITORY_WRONG_HOST, HOST_MAY_NOT_DECRYPT, IDENTITY_MISSING, NOT_SUPPORTED.
 */
export async function prepareRestore(db: Database, request: RestoreRequest, now: Date): Promise<Prepared> {
  const what = weighRequest(request);
  const { row: cluster } = await requireCluster(db, request.cluster);
  const target = await requireCluster(db, request.targetCluster || cluster.id);
  const host = await requireHost(db, primaryInstance(target).hostId);
  if (what === "file") return await prepareFile(db, { request, target, host, now });
  const source = await chooseSource(db, { cluster, backupId: request.backup, host });
  const operationId = newId("op", { now: () => now.getTime() });
  const common = {
    operationId,
    hostId: host.id,
    clusterId: target.row.id,
    repositoryId: source.repository.id,
    subject: target.row,
    backups: [source.backup],
  };
  const restore = { request, cluster, source, target, hostId: host.id };
  switch (what) {
    case "database": {
      const { database } = request;
      requireDatabase(source, database);
      const from = { backup: source.backup, repository: source.repository.id, cluster: cluster.id };
      const targetDatabase = request.targetDatabase || database;
      return {
        ...common,
        ...databaseWork({ ...choices(request), operationId, from, database, target: target.row, targetDatabase }, now),
      };
    }
    case "globals":
      return {
        ...common,
        exclusiveKey: `restore globals ${target.row.id}`,
        spec: { case: "restoreGlobals", value: globalsSpec(restore) },
      };
    case "cluster": {
      const { spec, parts } = planCluster(restore, now);
      return {
        ...common,
        hostId: undefined,
        exclusiveKey: `restore cluster ${target.row.id}`,
        spec: { case: "restoreCluster", value: spec },
        parts,
      };
    }
  }
}

/** The restore of one database that a plan is asked for. Errors: NOT_SUPPORTED for the globals and the cluster. */
export function requirePlannable({ spec }: Prepared): CreateRestoreSpec {
  if (spec.case === "createRestore") return spec.value;
  const what = spec.case === "restoreGlobals" ? "the globals" : "a whole cluster";
  return fail("NOT_SUPPORTED", `restores of ${what} are not planned by an agent yet`, {
    hint: "check the request with coppice restore create … --dry-run, or plan its databases one by one",
  });
}

async function prepareFile(
  db: Database,
  {
    request,
    target,
    host,
    now,
  }: { readonly request: RestoreRequest; readonly target: ClusterRecord; readonly host: HostRow; readonly now: Date },
): Promise<Prepared> {
  const { file, fileHost, database } = request;
  const there = fileHost === "" ? host : await requireHost(db, fileHost);
  if (there.id !== host.id) {
    fail(
      "INVALID_FIELD",
      `the file is on host ${there.name}, and cluster ${target.row.name} is reached from ${host.name}`,
      {
        hint: `copy the file to ${host.name}, or restore into a cluster of ${there.name}`,
        fields: [{ field: "restore.file_host", expected: host.name, value: fileHost }],
      },
    );
  }
  const operationId = newId("op", { now: () => now.getTime() });
  const targetDatabase = request.targetDatabase || database;
  const restore = { ...choices(request), operationId, from: { file }, database, target: target.row, targetDatabase };
  return {
    operationId,
    hostId: host.id,
    clusterId: target.row.id,
    repositoryId: undefined,
    subject: target.row,
    backups: [],
    ...databaseWork(restore, now),
  };
}

function choices({
  into,
  replace,
  jobs,
  selection,
}: RestoreRequest): Pick<DatabaseRestore, "mode" | "jobs" | "selection"> {
  return { mode: into ? "into" : replace ? "replace" : "new", jobs, selection };
}

function databaseWork(restore: DatabaseRestore, now: Date): Pick<Prepared, "spec" | "exclusiveKey"> {
  const value = restoreSpec(restore, now);
  return { spec: { case: "createRestore", value }, exclusiveKey: exclusiveKeyOf(value) };
}
