import { create } from "@bufbuild/protobuf";
import type { BackupDumpCommand } from "@coppice/proto/gen/coppice/agent/v1/backup_dump";
import type { ClusterFacts } from "@coppice/proto/gen/coppice/agent/v1/check_cluster";
import type { BackupAddress } from "@coppice/proto/gen/coppice/agent/v1/repository_target";
import { DumpOptionsSchema } from "@coppice/proto/gen/coppice/common/v1/dump_options";
import { type WorkDone, WorkDoneSchema } from "@coppice/proto/gen/coppice/common/v1/progress";
import { fail } from "@coppice/proto/kit/failure";
import { formatSize } from "@coppice/proto/kit/size";
import { openLook, type PostgresConnection } from "../../postgres/connect.ts";
import { type ClientFiles, formatAddress, type ResolvedEndpoint, resolveEndpoint } from "../../postgres/endpoint.ts";
import { readFacts, requireRole } from "../../postgres/facts.ts";
import { majorOf, requireSupported } from "../../postgres/majors.ts";
import { digestRoles, type RolesDigest } from "../../postgres/roles-digest.ts";
import { type CodecTool, readCodecTools } from "../../pipeline/codec-tools.ts";
import type { Encoding } from "../../pipeline/stages.ts";
import { findToolAccess, type ToolAccess } from "../../postgres/tool-access.ts";
import { findTools } from "../../postgres/tools.ts";
import { claimCluster } from "../../repository/claim-cluster.ts";
import { backupPrefix } from "../../repository/layout.ts";
import { unseenWarning } from "../../storage/look-if-allowed.ts";
import type { Storage } from "../../storage/storage.ts";
import { chooseDatabases, type ChosenDatabases, requireDumpableWhole } from "./choose-databases.ts";
import { type ClusterDatabase, listDatabases } from "../databases.ts";
import { refuseUnlogged } from "./refuse-unlogged.ts";
import type { RecipeFacts } from "./recipe.ts";
import { type ResolvedDumpOptions, resolveDumpOptions } from "./dump-options.ts";

/** What a dump is taken with. */
export interface DumpRequest {
  readonly command: BackupDumpCommand;
  readonly operationId: string;
  readonly agentVersion: string;
  /** The opened password, where the connection has one. */
  readonly password: string | undefined;
  readonly files: ClientFiles;
  readonly storage: Storage;
  readonly signal: AbortSignal;
  readonly onProgress: (work: WorkDone) => void;
  readonly log: (line: string) => void;
  /** Told what a failed dump could not clear away. */
  readonly onLeaving: (leaving: string) => void;
}

/** A dump that can begin: what was seen and decided before it. */
export interface PreparedDump {
  readonly request: DumpRequest;
  readonly address: BackupAddress;
  readonly prefix: string;
  readonly options: ResolvedDumpOptions;
  /** Of every stream of the backup. */
  readonly encoding: Encoding;
  readonly endpoint: ResolvedEndpoint;
  readonly access: ToolAccess;
  readonly facts: ClusterFacts;
  /** The programs that encode, for the manifest. */
  readonly codecTools: readonly CodecTool[];
  readonly chosen: ChosenDatabases<ClusterDatabase>;
  readonly roles: RolesDigest;
  /** What the recipe says of the server, as it was before the globals. */
  readonly seen: Pick<RecipeFacts, "bootstrapRole" | "tablespaces">;
  /** Whether the server can tell the globals in UTF-8; a database without an encoding hands out bytes as they are. */
  readonly hasEncoding: boolean;
  /** Whether the globals hold passwords: not on request, and not where the role may not read them. */
  readonly hasRolePasswords: boolean;
  readonly startTime: Date;
}

/** Below this no repository has room for a dump worth the name. */
const leastFreeBytes = 16 * 1024 * 1024;

function connectTimeout({ connectTimeoutMs }: ResolvedDumpOptions): { connectTimeoutMs?: number } {
  return connectTimeoutMs === undefined ? {} : { connectTimeoutMs };
}

/** Opens a connection, to the maintenance database unless another one is named, with the time-out of the options. */
export function connectForDump(
  { endpoint, options }: Pick<PreparedDump, "endpoint" | "options">,
  signal: AbortSignal,
  database = endpoint.maintenanceDatabase,
): Promise<PostgresConnection> {
  return openLook(endpoint, { database, signal, ...connectTimeout(options) });
}

async function lookForRecipe(connection: PostgresConnection): Promise<PreparedDump["seen"]> {
  const { role } = await connection.queryOne<{ role: string }>("select pg_get_userbyid(10)::text as role");
  const tablespaces = await connection.query<{ name: string; location: string }>(`
    select spcname::text as name, pg_tablespace_location(oid) as location from pg_tablespace
    where spcname not in ('pg_default', 'pg_global') order by oid`);
  return { bootstrapRole: role, tablespaces };
}

async function checkRoom({ storage, signal, log }: DumpRequest, databases: readonly ClusterDatabase[]): Promise<void> {
  const free = await storage.freeBytes(signal);
  if (free === undefined) return;
  const total = databases.reduce((sum, { sizeBytes }) => sum + Number(sizeBytes ?? 0n), 0);
  // Dumps are smaller than databases by far, but nobody knows by how much: a guess refuses nothing.
  if (free < leastFreeBytes) fail("REPOSITORY_FULL", `the repository ${storage.name} has ${formatSize(free)} left`);
  if (free < total) log(`warning: the repository has ${formatSize(free)} left for databases of ${formatSize(total)}`);
}

/**
 * Looks at everything that can be seen to be wrong before a byte of the backup is written. Fails as connections, tools
 * and the storage do, with CLUSTER_CHANGED, INSTANCE_ROLE_CHANGED, SERVER_UNSUPPORTED, DATABASE_NOT_FOUND, STANDBY_LACKS_ROWS
 * or REPOSITORY_FULL.
 */
export async function prepareDump(request: DumpRequest): Promise<PreparedDump> {
  const { command, signal, storage, log } = request;
  const address = command.backup ?? fail("INVALID_FIELD", "the command names no backup");
  const options = resolveDumpOptions(command.options ?? create(DumpOptionsSchema));
  const startTime = new Date();
  request.onProgress(create(WorkDoneSchema, { phase: "preflight" }));

  const endpoint = await resolveEndpoint(command.connection?.endpoint, request.password, request.files);
  await using connection = await connectForDump({ endpoint, options }, signal);
  const facts = await readFacts(connection);
  requireSupported(facts.serverVersionNum);
  const expected = command.expectedSystemIdentifier;
  if (expected && expected !== facts.systemIdentifier)
    fail(
      "CLUSTER_CHANGED",
      `the cluster at ${formatAddress(endpoint)} has the system identifier ${facts.systemIdentifier} instead of ${expected}`,
    );
  requireRole(command.connection, endpoint, facts);
  const tools = await findTools(majorOf(facts.serverVersionNum), { signal });
  const access = await findToolAccess(endpoint, { tools, signal, ...connectTimeout(options) });
  const encoding: Encoding = {
    codec: options.codec,
    level: options.given.compressionLevel,
    recipients: address.repository?.recipients ?? [],
  };
  const codecTools = await readCodecTools(encoding, signal);
  const databases = await listDatabases(connection);
  const wanted = chooseDatabases(databases, options.given);
  if (options.given.clusterDump) requireDumpableWhole(wanted.chosen);
  if (options.given.serializableDeferrable && facts.inRecovery)
    fail("CLUSTER_READ_ONLY", "a standby has no serializable snapshot, which the dump was asked to wait for");
  const connect = (database: string) => connectForDump({ endpoint, options }, signal, database);
  const asked = { options, clusterName: command.clusterName, connect, signal };
  const chosen = facts.inRecovery ? await refuseUnlogged(wanted, asked) : wanted;
  await checkRoom(request, chosen.chosen);
  const roles = await digestRoles(connection);
  const seen = await lookForRecipe(connection);
  const prefix = backupPrefix({ clusterId: address.clusterId, folder: address.folder });
  const cluster = {
    clusterId: address.clusterId,
    name: command.clusterName,
    systemIdentifier: facts.systemIdentifier,
    major: majorOf(facts.serverVersionNum),
    seenTime: startTime,
    isExpected: command.clusterFileExpected,
    knownClusters: command.knownClusters,
  };
  if (!(await claimCluster(storage, cluster, signal))) log(unseenWarning(storage));
  log(`PostgreSQL ${majorOf(facts.serverVersionNum)}, tools ${tools.version}, ${chosen.chosen.length} databases`);
  const hasRolePasswords = roles.readsPasswords && !options.given.noRolePasswords;
  if (!hasRolePasswords) {
    const why = options.given.noRolePasswords ? "as asked for" : "the role may not read pg_authid";
    log(`the globals are dumped without passwords: ${why}`);
  }
  return {
    request,
    address,
    prefix,
    options,
    encoding,
    endpoint,
    access,
    facts,
    codecTools,
    chosen,
    roles,
    seen,
    hasEncoding: databases.some(
      ({ name, properties }) => name === endpoint.maintenanceDatabase && properties.encoding !== "SQL_ASCII",
    ),
    hasRolePasswords,
    startTime,
  };
}
