import { create } from "@bufbuild/protobuf";
import { RecoveryAction } from "@coppice/proto/gen/coppice/common/v1/recovery_target";
import {
  type PhysicalPlan,
  PlanPartSpecSchema,
  type RecoverPartSpec,
  RecoverPartSpecSchema,
} from "@coppice/proto/gen/coppice/control/v1/physical_operation";
import {
  type PartRestore,
  PhysicalRestoreSchema,
  type RestoreRequest,
} from "@coppice/proto/gen/coppice/control/v1/restore";
import { fail } from "@coppice/proto/kit/failure";
import {
  formatKeptDatabase,
  formatScratchFolder,
  formatStagedDatabase,
} from "@coppice/proto/kit/repository/restore-names";
import type { Database } from "../../catalog/catalog.ts";
import type { ClusterRecord } from "../../catalog/cluster.ts";
import { findHost, type HostRow } from "../../catalog/host.ts";
import { requireCluster, requireHost } from "../../inventory/require.ts";
import type { Prepared } from "../prepared.ts";
import { primaryInstance } from "../server/primary-instance.ts";
import { exclusiveKeyOf } from "../restore/database.ts";
import { spareCatalog } from "../restore/spare-catalog.ts";
import { cleanPath, resolvePhysicalRestore } from "./restore.ts";

/** For large files that are of no use later, and on a disk, where /tmp may be memory. */
const usualRoot = "/var/tmp";

/** Where a part goes, and the host that so does the work. */
type Destination =
  | { readonly is: "cluster"; readonly target: ClusterRecord; readonly database: string; readonly host: HostRow }
  | { readonly is: "file"; readonly path: string; readonly host: HostRow };

/** What its rows are compared with. */
type Live =
  | { readonly cluster: string; readonly database: string; readonly problem: "" }
  | { readonly cluster: ""; readonly database: ""; readonly problem: string };

/**
 * Resolves a restore of one database, or a part of it, to a point in time. Errors: as a restore of a data directory and a
 * restore of a database of a dump.
 */
export async function preparePart(
  db: Database,
  request: RestoreRequest,
  part: PartRestore,
  now: Date,
): Promise<Prepared> {
  const { prepared, refuse } = await resolvePart(db, request, part, now);
  refuse();
  return prepared;
}

/** The same as a plan. */
export async function preparePartPlan(
  db: Database,
  request: RestoreRequest,
  part: PartRestore,
  now: Date,
): Promise<Prepared> {
  const { prepared, spec, plan, cluster } = await resolvePart(db, request, part, now);
  const { exclusiveKey: _, ...rest } = prepared;
  const databaseKnown = cluster.databases.some(({ name }) => name === request.database);
  const planned = create(PlanPartSpecSchema, { part: spec, plan, databaseKnown });
  return { ...rest, spec: { case: "planPart", value: planned } };
}

async function resolvePart(
  db: Database,
  request: RestoreRequest,
  part: PartRestore,
  now: Date,
): Promise<{
  prepared: Prepared;
  spec: RecoverPartSpec;
  plan: PhysicalPlan;
  cluster: ClusterRecord;
  refuse: () => void;
}> {
  const { action } = part.target ?? {};
  if (action !== undefined && action !== RecoveryAction.UNSPECIFIED && action !== RecoveryAction.PROMOTE) {
    fail("INVALID_FIELD", "the server that is recovered for a part is gone afterwards: it does nothing at its target", {
      fields: [{ field: "restore.part.target.action", expected: "nothing with part" }],
    });
  }
  const cluster = await requireCluster(db, request.cluster);
  const destination = await chooseDestination(db, request, part, cluster);
  const { host } = destination;
  const physical = create(PhysicalRestoreSchema, {
    ...(part.target ? { target: part.target } : {}),
    host: host.id,
    // It is named for the operation below.
    dataDirectory: `${usualRoot}/coppice`,
    start: true,
  });
  const resolved = await resolvePhysicalRestore(db, { ...request, replace: false }, physical);
  const { operationId } = resolved.prepared;
  const root = part.scratch === "" ? usualRoot : cleanPath(part.scratch, "restore.part.scratch");
  const scratch = formatScratchFolder(root, operationId);
  const restore = resolved.spec;
  restore.dataDirectory = `${scratch}/data`;
  restore.tablespaces = Object.fromEntries(
    Object.keys(restore.tablespaces).map((oid) => [oid, `${scratch}/tablespaces/${oid}`]),
  );
  const live = await findLive(db, { request, cluster, destination });
  const spec = create(RecoverPartSpecSchema, {
    restore,
    scratch,
    database: request.database,
    ...(request.selection ? { selection: request.selection } : {}),
    liveCluster: live.cluster,
    liveDatabase: live.database,
    liveProblem: live.problem,
    ...(destination.is === "file" ? { file: destination.path } : placeInto(destination, { request, operationId, now })),
  });
  if (destination.is === "cluster") await spareCatalog(db, destination.target, [destination.database]);
  const subject = destination.is === "cluster" ? destination.target.row : cluster.row;
  const prepared: Prepared = {
    ...resolved.prepared,
    spec: { case: "recoverPart", value: spec },
    clusterId: subject.id,
    subject,
    exclusiveKey: destination.is === "cluster" ? exclusiveKeyOf(spec) : `restore file ${host.id} ${destination.path}`,
  };
  return { prepared, spec, plan: resolved.plan, cluster, refuse: resolved.refuse };
}

function placeInto(
  { target, database }: Extract<Destination, { is: "cluster" }>,
  { request, operationId, now }: { readonly request: RestoreRequest; readonly operationId: string; readonly now: Date },
) {
  const { replace, into, jobs } = request;
  return {
    targetCluster: target.row.id,
    targetClusterName: target.row.name,
    targetDatabase: database,
    replace,
    into,
    jobs: jobs || 1,
    keptDatabase: replace ? formatKeptDatabase(database, now) : "",
    stagedDatabase: formatStagedDatabase(operationId),
  };
}

async function chooseDestination(
  db: Database,
  request: RestoreRequest,
  part: PartRestore,
  cluster: ClusterRecord,
): Promise<Destination> {
  if (part.file !== "") {
    return { is: "file", path: cleanPath(part.file, "restore.part.file"), host: await requireHost(db, part.fileHost) };
  }
  const target = await requireCluster(db, request.targetCluster || cluster.row.id);
  const host = await requireHost(db, primaryInstance(target).hostId);
  return { is: "cluster", target, database: request.targetDatabase || request.database, host };
}

/**
 * The live database whose rows are compared: the one that is swapped out or filled, else the one of the same name in the
 * cluster itself. It has to be reached from the host that does the work.
 */
async function findLive(
  db: Database,
  {
    request,
    cluster,
    destination,
  }: { readonly request: RestoreRequest; readonly cluster: ClusterRecord; readonly destination: Destination },
): Promise<Live> {
  const isPresent = destination.is === "cluster" && (request.replace || request.into);
  const live = isPresent ? destination.target : cluster;
  const { row, instances } = live;
  if (instances.length === 0) {
    return { cluster: "", database: "", problem: `cluster ${row.name} is known from its backups only` };
  }
  const { hostId } = primaryInstance(live);
  if (hostId !== destination.host.id) {
    const home = await findHost(db, hostId);
    const problem = `cluster ${row.name} is reached from host ${home?.name ?? "that is gone"}, and the work is done on ${destination.host.name}`;
    return { cluster: "", database: "", problem };
  }
  return { cluster: row.id, database: isPresent ? destination.database : request.database, problem: "" };
}
