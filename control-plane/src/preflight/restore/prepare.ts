import type { KeyObject } from "node:crypto";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { PlanRestoreSpecSchema } from "@coppice/proto/gen/coppice/control/v1/operation";
import type { RestoreRequest } from "@coppice/proto/gen/coppice/control/v1/restore";
import { fail } from "@coppice/proto/kit/failure";
import { newId } from "@coppice/proto/kit/id";
import type { Database } from "../../catalog/catalog.ts";
import type { ClusterRecord } from "../../catalog/cluster.ts";
import type { HostRow } from "../../catalog/host.ts";
import { requireTrusted } from "../../secrets/may-decrypt.ts";
import { seal } from "../../secrets/seal.ts";
import { requireCluster, requireHost } from "../../inventory/require.ts";
import type { OwnSecret, Prepared, PreparedPart } from "../prepared.ts";
import { preparePart, preparePartPlan } from "../physical/part.ts";
import { preparePhysicalPlan, preparePhysicalRestore } from "../physical/restore.ts";
import { primaryInstance } from "../server/primary-instance.ts";
import { globalsSpec, planCluster } from "./cluster.ts";
import { type DatabaseRestore, exclusiveKeyOf, restoreSpec } from "./database.ts";
import { weighRequest } from "./request.ts";
import { chooseSource, requireDatabase } from "./source.ts";
import { spareCatalog } from "./spare-catalog.ts";

/**
 * Resolves what to restore and where to: one database, the globals, or a cluster, which is a group. Errors: INVALID_FIELD,
 * CLUSTER_NOT_FOUND, BACKUP_NOT_FOUND also when the cluster has no good one, DATABASE_NOT_IN_BACKUP, DATABASE_EXISTS,
 * REPOSITORY_WRONG_HOST, HOST_MAY_NOT_DECRYPT, IDENTITY_MISSING, NOT_SUPPORTED, DATABASE_IN_USE for the catalog's own.
 */
export async function prepareRestore(
  db: Database,
  request: RestoreRequest,
  { now, masterKey }: { readonly now: Date; readonly masterKey: KeyObject },
): Promise<Prepared> {
  const what = weighRequest(request);
  const { part, physical } = request;
  if (part !== undefined) return await preparePart(db, request, part, now);
  if (physical !== undefined) return await preparePhysicalRestore(db, request, physical);
  const { row: cluster } = await requireCluster(db, request.cluster);
  const target = await requireCluster(db, request.targetCluster || cluster.id);
  const host = await requireHost(db, primaryInstance(target).hostId);
  if (what === "file") return await prepareFile(db, { request, target, host, now, masterKey });
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
      await spareCatalog(db, target, [targetDatabase]);
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
    case "part":
    case "physical":
      throw new TypeError("a restore out of a physical backup was resolved as another one");
    case "cluster": {
      const { spec, parts } = planCluster(restore, now);
      await spareCatalog(db, target, spec.databases);
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

/** Resolves a plan of a restore: its agent looks at all of it, where the restore itself is a group too. Errors: as above. */
export async function preparePlan(
  db: Database,
  request: RestoreRequest,
  options: { readonly now: Date; readonly masterKey: KeyObject },
): Promise<Prepared> {
  if (request.part !== undefined) {
    weighRequest(request);
    return await preparePartPlan(db, request, request.part, options.now);
  }
  if (request.physical !== undefined) {
    weighRequest(request);
    return await preparePhysicalPlan(db, request, request.physical);
  }
  const restore = await prepareRestore(db, request, options);
  const { exclusiveKey: _, parts = [], ...prepared } = restore;
  const value = create(PlanRestoreSpecSchema, planned(prepared.spec, parts));
  return { ...prepared, hostId: prepared.hostId ?? parts[0]?.hostId, spec: { case: "planRestore", value } };
}

function planned(
  spec: Prepared["spec"],
  parts: readonly PreparedPart[],
): MessageInitShape<typeof PlanRestoreSpecSchema> {
  switch (spec.case) {
    case "createRestore":
      return { restore: spec.value };
    case "restoreGlobals":
      return { globals: spec.value };
    case "restoreCluster": {
      const specs = parts.map((part) => part.spec);
      const globals = specs.flatMap((part) => (part.case === "restoreGlobals" ? [part.value] : []))[0];
      return {
        cluster: spec.value,
        ...(globals ? { globals } : {}),
        databases: specs.flatMap((part) => (part.case === "createRestore" ? [part.value] : [])),
      };
    }
    default:
      throw new TypeError(`a ${spec.case} is no restore`);
  }
}

async function prepareFile(
  db: Database,
  {
    request,
    target,
    host,
    now,
    masterKey,
  }: {
    readonly request: RestoreRequest;
    readonly target: ClusterRecord;
    readonly host: HostRow;
    readonly now: Date;
    readonly masterKey: KeyObject;
  },
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
  const secret = request.identity === "" ? undefined : sealIdentity(masterKey, { ...request, host, operationId });
  const targetDatabase = request.targetDatabase || database;
  await spareCatalog(db, target, [targetDatabase]);
  const from = { file, identitySecret: secret?.id ?? "" };
  const restore = { ...choices(request), operationId, from, database, target: target.row, targetDatabase };
  return {
    operationId,
    hostId: host.id,
    clusterId: target.row.id,
    repositoryId: undefined,
    subject: target.row,
    backups: [],
    ...(secret ? { secret } : {}),
    ...databaseWork(restore, now),
  };
}

/** An identity goes to no host but those that are trusted with them. Errors: HOST_MAY_NOT_DECRYPT. */
function sealIdentity(
  masterKey: KeyObject,
  {
    identity,
    file,
    host,
    operationId,
  }: {
    readonly identity: string;
    readonly file: string;
    readonly host: HostRow;
    readonly operationId: string;
  },
): OwnSecret {
  requireTrusted(host, file);
  const id = newId("sec");
  return { id, purpose: `identity for operation ${operationId}`, sealed: seal(masterKey, id, identity) };
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
