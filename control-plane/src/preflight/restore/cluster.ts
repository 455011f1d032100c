import { create } from "@bufbuild/protobuf";
import type { RestoreRequest } from "@coppice/proto/gen/coppice/control/v1/restore";
import {
  type RestoreClusterSpec,
  RestoreClusterSpecSchema,
  type RestoreGlobalsSpec,
  RestoreGlobalsSpecSchema,
} from "@coppice/proto/gen/coppice/control/v1/restore_operation";
import { fail } from "@coppice/proto/kit/failure";
import { newId } from "@coppice/proto/kit/id";
import type { ClusterRecord, ClusterRow } from "../../catalog/cluster.ts";
import type { PreparedPart } from "../prepared.ts";
import { exclusiveKeyOf, restoreSpec } from "./database.ts";
import type { RestoreSource } from "./source.ts";

/** Every cluster has them from the beginning, so that they are filled where others are made. */
const builtIn: ReadonlySet<string> = new Set(["postgres", "template1"]);

/** Where a restore of more than one database comes from and goes to. */
export interface ClusterRestore {
  readonly request: RestoreRequest;
  readonly cluster: ClusterRow;
  readonly source: RestoreSource;
  readonly target: ClusterRecord;
  readonly hostId: string;
}

/** The spec of a restore of the globals. Errors: BACKUP_INCOMPLETE. */
export function globalsSpec({ request, cluster, source, target }: ClusterRestore): RestoreGlobalsSpec {
  const { backup, dump, repository } = source;
  if (dump.globals === undefined) fail("BACKUP_INCOMPLETE", `backup ${backup} holds no globals`);
  return create(RestoreGlobalsSpecSchema, {
    backup,
    repository: repository.id,
    cluster: cluster.id,
    targetCluster: target.row.id,
    targetClusterName: target.row.name,
    roles: request.roles,
    noTablespaces: request.noTablespaces,
  });
}

/**
 * The spec of a restore of a whole cluster and its parts: the globals, then each database as the backup lists them.
 * Databases that every cluster has are filled, or swapped like the others when these are to be replaced. Errors:
 * BACKUP_INCOMPLETE, DATABASE_EXISTS.
 */
export function planCluster(
  restore: ClusterRestore,
  now: Date,
): { readonly spec: RestoreClusterSpec; readonly parts: PreparedPart[] } {
  const { request, cluster, source, target, hostId } = restore;
  const { backup, dump, repository } = source;
  const { replace, jobs, selection, roles, noTablespaces } = request;
  if (!replace) refuseThere(restore);
  const places = { hostId, clusterId: target.row.id, repositoryId: repository.id };
  const globals = globalsSpec(restore);
  // Ids of later milliseconds sort after earlier ones: the parts are listed, and locked, in their order.
  const newPartId = (position: number) => newId("op", { now: () => now.getTime() + 1 + position });
  const databases = dump.databases.map(({ name }, index): PreparedPart => {
    const id = newPartId(index + 1);
    const spec = restoreSpec(
      {
        operationId: id,
        from: { backup, repository: repository.id, cluster: cluster.id },
        database: name,
        target: target.row,
        targetDatabase: name,
        mode: replace ? "replace" : builtIn.has(name) ? "into" : "new",
        jobs: !replace && builtIn.has(name) ? 1 : jobs,
        selection,
      },
      now,
    );
    return { id, spec: { case: "createRestore", value: spec }, exclusiveKey: exclusiveKeyOf(spec), ...places };
  });
  return {
    spec: create(RestoreClusterSpecSchema, {
      backup,
      repository: repository.id,
      cluster: cluster.id,
      targetCluster: target.row.id,
      targetClusterName: target.row.name,
      databases: dump.databases.map(({ name }) => name),
      replace,
      jobs: jobs || 1,
      roles,
      noTablespaces,
      missing: dump.missing.map(({ name, message }) => `${JSON.stringify(name)}: ${message}`),
      ...(selection ? { selection } : {}),
    }),
    parts: [{ id: newPartId(0), spec: { case: "restoreGlobals", value: globals }, ...places }, ...databases],
  };
}

/** By what its last check or backup saw, so that it is refused now and not after hours, half done. */
function refuseThere({ source, target }: ClusterRestore): void {
  const present = new Set(target.databases.map(({ name }) => name));
  const there = source.dump.databases.filter(({ name }) => present.has(name) && !builtIn.has(name));
  if (there.length === 0) return;
  const names = there.map(({ name }) => JSON.stringify(name)).join(", ");
  const { name } = target.row;
  fail("DATABASE_EXISTS", `cluster ${name} has databases of these names already: ${names}`, {
    hint: `swap them with --replace, or restore into another cluster with --to; if they were dropped since: coppice cluster check ${name}`,
  });
}
