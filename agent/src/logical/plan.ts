// Longer than most because it is the one list of what is looked at before a restore: the plan shows it, the restore
// stops at the first item that failed.
import { statfs } from "node:fs/promises";
import { create } from "@bufbuild/protobuf";
import { type PlanRestoreResult, PlanRestoreResultSchema } from "@coppice/proto/gen/coppice/agent/v1/plan_restore";
import { type RestoreDatabaseCommand, RestoreMode } from "@coppice/proto/gen/coppice/agent/v1/restore_database";
import type { BackupAddress } from "@coppice/proto/gen/coppice/agent/v1/repository_target";
import { CheckStatus } from "@coppice/proto/gen/coppice/common/v1/check";
import type { BackupManifest, DumpedDatabase } from "@coppice/proto/gen/coppice/repository/v1/manifest";
import type { StoredStream } from "@coppice/proto/gen/coppice/repository/v1/stored_object";
import { fail, type Failure, isFailure } from "@coppice/proto/kit/failure";
import { formatSize } from "@coppice/proto/kit/size";
import { openConnection, type PostgresConnection } from "../postgres/connect.ts";
import { type ClientFiles, formatAddress, type ResolvedEndpoint, resolveEndpoint } from "../postgres/endpoint.ts";
import { readFacts } from "../postgres/facts.ts";
import { majorOf, requireRestorable, requireRestoreTool, requireSupported } from "../postgres/majors.ts";
import { findToolAccess, type ToolAccess } from "../postgres/tool-access.ts";
import { findTools } from "../postgres/tools.ts";
import { readManifest } from "../repository/get.ts";
import { backupPrefix } from "../repository/layout.ts";
import type { Storage } from "../storage/storage.ts";
import { type ArchiveToc, readStoredToc } from "./archive-toc.ts";
import { findDatabase } from "./staged-database.ts";

/** What a restore is looked at with. */
export interface RestoreToPlan {
  readonly command: RestoreDatabaseCommand;
  /** The opened password, where the connection has one. */
  readonly password: string | undefined;
  readonly files: ClientFiles;
  readonly storage: Storage;
  /** Folder of the agent where a parallel restore puts the plain archive. */
  readonly workFolder: string;
  readonly signal: AbortSignal;
}

/** One thing that was looked at; with a failure the restore is refused. */
interface Item {
  readonly name: string;
  readonly message: string;
  readonly failure?: Failure;
  readonly warning?: string;
}

/** Everything a restore needs to know, seen before anything is touched. */
export interface RestorePlan {
  readonly items: readonly Item[];
  readonly address: BackupAddress;
  readonly prefix: string;
  readonly database: DumpedDatabase;
  readonly stream: StoredStream;
  readonly toc: ArchiveToc;
  readonly endpoint: ResolvedEndpoint;
  readonly access: ToolAccess;
  /** Database to work from: never the one that is replaced. */
  readonly adminDatabase: string;
  /** Whether there is a database of the target's name, which is kept. */
  readonly replaces: boolean;
  /** The tablespace the restored database is made in; undefined is the default one. */
  readonly tablespace: string | undefined;
  readonly keepsTablespaces: boolean;
  readonly freeBytes: bigint | undefined;
  readonly sessionsToEnd: number;
}

/** The database of a backup that a restore is of. Fails with DATABASE_NOT_IN_BACKUP. */
function findInBackup(manifest: BackupManifest, name: string): DumpedDatabase {
  const dump = manifest.content.case === "dump" ? manifest.content.value : undefined;
  const database = dump?.databases.find((each) => each.name === name);
  if (database) return database;
  const missing = dump?.missing.find((each) => each.name === name);
  const why = missing ? `: ${missing.message}` : "";
  return fail(
    "DATABASE_NOT_IN_BACKUP",
    `the backup ${manifest.backupId} does not hold the database ${JSON.stringify(name)}${why}`,
  );
}

function streamOf({ stream, name }: DumpedDatabase): StoredStream {
  return stream ?? fail("MANIFEST_UNREADABLE", `the manifest names no objects of the database ${JSON.stringify(name)}`);
}

/** Looks, and turns a failure into an item; anything else is no answer and is thrown. */
async function look(name: string, signal: AbortSignal, see: () => Promise<Omit<Item, "name">>): Promise<Item> {
  try {
    return { name, ...(await see()) };
  } catch (error) {
    signal.throwIfAborted();
    if (!isFailure(error)) throw error;
    return { name, message: error.message, failure: error };
  }
}

async function seePrivileges(connection: PostgresConnection): Promise<Omit<Item, "name">> {
  const role = await connection.queryOne<{ name: string; may_create: boolean }>(
    "select rolname::text as name, rolsuper or rolcreatedb as may_create from pg_roles where rolname = current_user",
  );
  const name = JSON.stringify(role.name);
  if (!role.may_create) fail("PRIVILEGE_MISSING", `the role ${name} may not create databases`);
  return { message: `the role ${name} may create databases` };
}

async function seeRoles(connection: PostgresConnection, database: DumpedDatabase): Promise<Omit<Item, "name">> {
  const owner = database.properties?.owner ?? "";
  const needed = [...new Set([owner, ...database.roles])].filter(Boolean);
  const rows = await connection.query<{ name: string }>("select rolname::text as name from pg_roles");
  const missing = needed.filter((role) => !rows.some(({ name }) => name === role));
  if (missing.length > 0) {
    const list = missing.map((role) => JSON.stringify(role)).join(", ");
    fail("ROLE_MISSING", `the database needs roles that do not exist in the cluster: ${list}`);
  }
  return { message: `all ${needed.length} roles that it needs exist` };
}

async function listTablespaces(connection: PostgresConnection): Promise<string[]> {
  return (await connection.query<{ name: string }>("select spcname::text as name from pg_tablespace")).map(
    ({ name }) => name,
  );
}

async function seeTarget(
  connection: PostgresConnection,
  { targetDatabase: target, keptDatabase: kept, mode }: RestoreDatabaseCommand,
): Promise<Omit<Item, "name">> {
  const shown = JSON.stringify(target);
  if (target === "template0") fail("DATABASE_EXISTS", "template0 cannot be replaced");
  const oid = await findDatabase(connection, target);
  if (oid === undefined) return { message: `there is no database ${shown}` };
  if (mode !== RestoreMode.REPLACE) fail("DATABASE_EXISTS", `the database ${shown} exists already`);
  if (!kept) fail("INVALID_FIELD", `no name is given under which the database ${shown} is kept`);
  if ((await findDatabase(connection, kept)) !== undefined)
    fail("DATABASE_EXISTS", `the name ${JSON.stringify(kept)}, under which the old database would be kept, is taken`);
  await refuseHeld(connection, target);
  return { message: `the database ${shown} is kept as ${JSON.stringify(kept)}` };
}

/** Fails with DATABASE_IN_USE when something holds the database that no ending of sessions would free. */
async function refuseHeld(connection: PostgresConnection, database: string): Promise<void> {
  const holders = await connection.query<{ what: string }>(
    `select 'the prepared transaction ' || quote_literal(gid) as what from pg_prepared_xacts where database = $1
     union all select 'the replication slot ' || slot_name from pg_replication_slots where database = $1
     union all select 'the subscription ' || s.subname from pg_subscription s join pg_database d on d.oid = s.subdbid
       where d.datname = $1 and s.subenabled`,
    [database],
  );
  if (holders.length > 0)
    fail(
      "DATABASE_IN_USE",
      `the database ${JSON.stringify(database)} is held by ${holders.map(({ what }) => what).join(", ")}`,
    );
}

async function freeBytesOf(folder: string): Promise<bigint | undefined> {
  try {
    const { bavail, bsize } = await statfs(folder, { bigint: true });
    return bavail * bsize;
  } catch (error) {
    // A folder that the agent may not see says nothing; the server will.
    if (error instanceof Error && "code" in error && ["EACCES", "ENOENT"].includes(String(error.code)))
      return undefined;
    throw error;
  }
}

function seeSpace(where: string, free: bigint | undefined, needed: bigint): Omit<Item, "name"> {
  if (free === undefined) return { message: `free space of ${where} cannot be seen from here` };
  const message = `${where} has ${formatSize(free)} free, and the database had ${formatSize(needed)}`;
  if (free < needed) fail("SPACE_MISSING", message);
  return { message };
}

async function chooseAdminDatabase(endpoint: ResolvedEndpoint, target: string, signal: AbortSignal): Promise<string> {
  if (endpoint.maintenanceDatabase !== target) return endpoint.maintenanceDatabase;
  await using connection = await openConnection(endpoint, { signal });
  const { name } = await connection.queryOne<{ name: string }>(
    `select datname::text as name from pg_database where datallowconn and datname <> $1
     order by datname <> 'postgres', datname <> 'template1', datname limit 1`,
    [target],
  );
  return name;
}

/** Looks at everything that a restore depends on; changes nothing. Fails where not even the looking works. */
export async function inspectRestore(request: RestoreToPlan): Promise<RestorePlan> {
  const { command, signal, storage } = request;
  const address = command.backup ?? fail("INVALID_FIELD", "the command names no backup");
  const prefix = backupPrefix({ clusterId: address.clusterId, folder: address.folder });
  const { manifest } = await readManifest(storage, address, signal);
  const database = findInBackup(manifest, command.database);
  const stream = streamOf(database);

  const endpoint = await resolveEndpoint(command.connection?.endpoint, request.password, request.files);
  const adminDatabase = await chooseAdminDatabase(endpoint, command.targetDatabase, signal);
  await using connection = await openConnection(endpoint, { database: adminDatabase, signal });
  const facts = await readFacts(connection);
  requireSupported(facts.serverVersionNum);
  const major = majorOf(facts.serverVersionNum);
  const dumpTool = Number.parseInt(manifest.tools.find(({ name }) => name === "pg_dump")?.version ?? "0", 10);
  const tools = await findTools(Math.max(major, dumpTool), { signal });
  const access = await findToolAccess(endpoint, { tools, signal });
  const toc = await readStoredToc(storage, { prefix, stream, access, signal });

  const present = await listTablespaces(connection);
  const absent = database.tablespaces.filter((name) => !present.includes(name));
  const own = database.properties?.tablespace ?? "pg_default";
  const freeBytes = facts.isLocal && facts.dataDirectory ? await freeBytesOf(facts.dataDirectory) : undefined;
  const target = command.targetDatabase;
  const replaces = (await findDatabase(connection, target)) !== undefined;
  const { sessions } = await connection.queryOne<{ sessions: number }>(
    "select count(*)::int as sessions from pg_stat_activity where datname = $1 and backend_type = 'client backend'",
    [target],
  );

  const items: Item[] = [
    {
      name: "backup",
      message: `${address.backupId} holds the database, ${toc.objects.length} ${toc.objects.length === 1 ? "object" : "objects"}`,
    },
    { name: "connection", message: `PostgreSQL ${major} answers at ${formatAddress(endpoint)}` },
    await look("version", signal, async () => {
      requireRestorable(majorOf(manifest.serverVersionNum), major);
      return { message: `a dump of PostgreSQL ${majorOf(manifest.serverVersionNum)} goes into PostgreSQL ${major}` };
    }),
    await look("tools", signal, async () => {
      requireRestoreTool(tools.major, major);
      return { message: `tools ${tools.version}` };
    }),
    await look("primary", signal, async () => {
      if (facts.inRecovery) fail("CLUSTER_READ_ONLY", `the server at ${formatAddress(endpoint)} is a standby`);
      return { message: "the server is a primary" };
    }),
    await look("privileges", signal, () => seePrivileges(connection)),
    await look("target", signal, () => seeTarget(connection, command)),
    await look("roles", signal, () => seeRoles(connection, database)),
    await look("space", signal, async () => seeSpace("the server's data directory", freeBytes, database.sizeBytes)),
  ];
  if (command.jobs > 1)
    items.push(
      await look("work-space", signal, async () =>
        seeSpace(`the agent's folder ${request.workFolder}`, await freeBytesOf(request.workFolder), database.sizeBytes),
      ),
    );
  if (absent.length > 0) {
    const list = absent.map((name) => JSON.stringify(name)).join(", ");
    items.push({
      name: "tablespaces",
      message: `the cluster has no tablespace ${list}`,
      warning: "everything goes into the default tablespace",
    });
  }
  return {
    items,
    address,
    prefix,
    database,
    stream,
    toc,
    endpoint,
    access,
    adminDatabase,
    replaces,
    tablespace: own !== "pg_default" && present.includes(own) ? own : undefined,
    keepsTablespaces: absent.length === 0,
    freeBytes,
    sessionsToEnd: replaces ? sessions : 0,
  };
}

function describeSteps(command: RestoreDatabaseCommand, plan: RestorePlan): string[] {
  const [target, staged] = [command.targetDatabase, command.stagedDatabase].map((name) => JSON.stringify(name));
  return [
    `create the database ${staged} beside what is there`,
    `load the archive of ${JSON.stringify(command.database)} into it, every object's digest checked`,
    "compare it with the archive's table of contents and count its rows",
    "give it its owner, privileges, settings, comment and limits",
    ...(plan.replaces
      ? [
          `end the ${plan.sessionsToEnd} sessions of ${target}`,
          `in one transaction rename ${target} to ${JSON.stringify(command.keptDatabase)} and ${staged} to ${target}`,
        ]
      : [`rename it to ${target}`]),
  ];
}

/**
 * Says what a restore would do and whether it would be refused; changes nothing. Fails when backup or cluster cannot be
 * looked at.
 */
export async function planRestore(request: RestoreToPlan): Promise<PlanRestoreResult> {
  const plan = await inspectRestore(request);
  return create(PlanRestoreResultSchema, {
    items: plan.items.map(({ name, message, failure, warning }) => ({
      name,
      message: warning ? `${message}: ${warning}` : message,
      status: failure ? CheckStatus.FAILED : warning ? CheckStatus.WARNING : CheckStatus.OK,
      fix: failure?.hint ?? "",
    })),
    steps: describeSteps(request.command, plan),
    storedBytes: plan.stream.objects.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0n),
    databaseBytes: plan.database.sizeBytes,
    ...(plan.freeBytes === undefined ? {} : { freeBytes: plan.freeBytes }),
    sessionsToEnd: plan.sessionsToEnd,
    keptAs: plan.replaces ? request.command.keptDatabase : "",
  });
}
