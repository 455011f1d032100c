// Longer than most because it is the one list of what is looked at before a restore: the plan shows it, the restore
// stops at the first item that failed.
import { create } from "@bufbuild/protobuf";
import { type PlanRestoreResult, PlanRestoreResultSchema } from "@coppice/proto/gen/coppice/agent/v1/plan_restore";
import { type RestoreDatabaseCommand, RestoreMode } from "@coppice/proto/gen/coppice/agent/v1/restore_database";
import { DumpContents } from "@coppice/proto/gen/coppice/common/v1/dump_options";
import {
  type DatabaseProperties,
  DatabasePropertiesSchema,
} from "@coppice/proto/gen/coppice/repository/v1/database_properties";
import { fail, isFailure } from "@coppice/proto/kit/failure";
import { runProgram } from "../host/run.ts";
import { openConnection, type PostgresConnection } from "../postgres/connect.ts";
import { type ClientFiles, formatAddress, type ResolvedEndpoint, resolveEndpoint } from "../postgres/endpoint.ts";
import { readFacts } from "../postgres/facts.ts";
import { knowsSettingsOf, majorOf, requireRestorable, requireSupported } from "../postgres/majors.ts";
import { findToolAccess, type ToolAccess } from "../postgres/tool-access.ts";
import { findTools } from "../postgres/tools.ts";
import type { Storage } from "../storage/storage.ts";
import { readDatabaseContents } from "./archive/database-contents.ts";
import { builtInDatabases, presentStatements, type PropertyStatement } from "./database-statements.ts";
import { requireRestrictedMode } from "./load.ts";
import { type Item, look, quoteNames, toCheckItem } from "../host/look.ts";
import { seeConnections, seeExtensions, seeLocale, seePrivileges, seeRoles } from "./look/server.ts";
import { freeBytesOf, seeSpace } from "../host/space.ts";
import { seeTarget } from "./look/target.ts";
import { fitInto, planScope, rolesOf, type Scope } from "./scope.ts";
import { openBackupSource } from "./source/backup-source.ts";
import { openFileSource } from "./source/file-source.ts";
import { propertiesForFile } from "./source/properties.ts";
import type { RestoreSource } from "./source/source.ts";
import { findDatabase } from "./staged-database.ts";

/** What a restore is looked at with. */
export interface RestoreToPlan {
  readonly command: RestoreDatabaseCommand;
  /** The opened password, where the connection has one. */
  readonly password: string | undefined;
  /** Lines of an age identity file, where the host may decrypt. */
  readonly identities: string | undefined;
  readonly files: ClientFiles;
  /** The backup's repository; undefined for a file. */
  readonly storage: Storage | undefined;
  /** Folder of the agent where a parallel restore puts the plain archive. */
  readonly workFolder: string;
  /** What is not there yet, and is made by a step before this one; only a plan of several steps says it. */
  readonly promised?: Promised;
  /** What is restored, where it is open already; then neither the command's backup nor its file is. */
  readonly source?: RestoreSource | undefined;
  readonly signal: AbortSignal;
}

/** Names of roles and tablespaces. */
export interface Promised {
  readonly roles: readonly string[];
  readonly tablespaces: readonly string[];
}

/** Everything a restore needs to know, seen before anything is touched. */
export interface RestorePlan {
  readonly items: readonly Item[];
  readonly source: RestoreSource;
  readonly scope: Scope;
  /** Properties that the restored database gets. */
  readonly properties: DatabaseProperties;
  readonly endpoint: ResolvedEndpoint;
  readonly access: ToolAccess;
  /** Whether the server refuses what dumps of the tools begin with. */
  readonly lacksToolSettings: boolean;
  /** Database to work from: never the one that is replaced. */
  readonly adminDatabase: string;
  /** Whether it goes into a database that is there. */
  readonly isInto: boolean;
  /** What gives a database that is there its properties, where it is filled as a new cluster's is. */
  readonly presentStatements: readonly PropertyStatement[];
  /** Whether there is a database of the target's name, which is to be replaced and kept. */
  readonly replaces: boolean;
  /** The tablespace the restored database is made in; undefined is the default one. */
  readonly tablespace: string | undefined;
  readonly keepsTablespaces: boolean;
  readonly freeBytes: bigint | undefined;
  readonly sessionsToEnd: number;
}

/** Opens what is restored. Fails as openBackupSource and openFileSource do. */
async function openSourceOf({ command, source, storage, identities, signal }: RestoreToPlan): Promise<RestoreSource> {
  if (source) return source;
  const { backup: address, file, database } = command;
  if (file) return await openFileSource({ path: file.path, identities, signal });
  if (!address || !storage) return fail("INVALID_FIELD", "the command names neither a backup nor a file");
  return await openBackupSource(storage, { address, database, identities, signal });
}

async function listTablespaces(connection: PostgresConnection): Promise<string[]> {
  return (await connection.query<{ name: string }>("select spcname::text as name from pg_tablespace")).map(
    ({ name }) => name,
  );
}

/** Database to work from: the maintenance database, or another one where that is the target. */
export async function chooseAdminDatabase(
  endpoint: ResolvedEndpoint,
  target: string,
  signal: AbortSignal,
): Promise<string> {
  if (endpoint.maintenanceDatabase !== target) return endpoint.maintenanceDatabase;
  await using connection = await openConnection(endpoint, { signal });
  const { name } = await connection.queryOne<{ name: string }>(
    `select datname::text as name from pg_database where datallowconn and datname <> $1
     order by datname <> 'postgres', datname <> 'template1', datname limit 1`,
    [target],
  );
  return name;
}

async function findProperties(
  connection: PostgresConnection,
  source: RestoreSource,
  scope: Scope,
  target: string,
): Promise<DatabaseProperties> {
  const { dumped } = source;
  const { noOwner, noPrivileges } = scope.selection;
  const properties = dumped ? dumped.properties : await propertiesForFile(connection, source.contents, target);
  if (!properties) return fail("MANIFEST_UNREADABLE", `${source.title} has no properties of the database`);
  const { owner } = await connection.queryOne<{ owner: string }>("select current_user::text as owner");
  return create(DatabasePropertiesSchema, {
    ...properties,
    ...(noOwner ? { owner } : {}),
    ...(noPrivileges ? { hasAcl: false, grants: [] } : {}),
  });
}

/** Fails with FILE_UNREADABLE when the user of the tools may not read all of a folder. */
async function requireReadableFolder(folder: string, { user }: ToolAccess, signal: AbortSignal): Promise<void> {
  const find = {
    file: "find",
    args: [folder, "-type", "f", "!", "-readable", "-print", "-quit"],
    ...(user ? { user } : {}),
  };
  const seen = await runProgram(find, { signal }).catch((error: unknown) => {
    if (isFailure(error, "PROGRAM_FAILED")) return undefined;
    throw error;
  });
  if (seen?.stdout.length === 0) return;
  const hint = "let that user read the folder and its files, or restore over TCP with a password";
  fail("FILE_UNREADABLE", `the folder ${folder} cannot be read by the user ${user?.name ?? "of the agent"}`, { hint });
}

/** The modes and parts that do not go together. Fails with INVALID_FIELD or SELECTION_REFUSED. */
function requireSense({
  command,
  source,
  scope,
}: {
  command: RestoreDatabaseCommand;
  source: RestoreSource;
  scope: Scope;
}) {
  if (scope.selection.contents === DumpContents.DATA_ONLY && command.mode !== RestoreMode.INTO)
    fail("SELECTION_REFUSED", "rows alone need tables to go to", { hint: "restore them into an existing database" });
  if (source.isCluster && command.database === "")
    fail("SELECTION_REFUSED", `${source.title} is of a whole cluster`, {
      hint: "name the one of its databases that is wanted",
    });
}

/** Looks at everything that a restore depends on; changes nothing. Fails where not even the looking works. */
export async function inspectRestore(request: RestoreToPlan): Promise<RestorePlan> {
  const { command, signal } = request;
  const source = await openSourceOf(request);
  const { dumped, serverMajor, toolMajor } = source;
  const whole = planScope(source, command.selection);
  requireSense({ command, source, scope: whole });
  const target = command.targetDatabase;
  const isInto = command.mode === RestoreMode.INTO;
  const mayReplace = command.mode === RestoreMode.REPLACE || command.mode === RestoreMode.HOLD;

  const endpoint = await resolveEndpoint(command.connection?.endpoint, request.password, request.files);
  const adminDatabase = await chooseAdminDatabase(endpoint, target, signal);
  await using connection = await openConnection(endpoint, { database: adminDatabase, signal });
  const facts = await readFacts(connection);
  requireSupported(facts.serverVersionNum);
  const major = majorOf(facts.serverVersionNum);
  const tools = await findTools(Math.max(major, toolMajor), { signal });
  const access = await findToolAccess(endpoint, { tools, signal });
  const isByScript = source.format !== "plain" && !knowsSettingsOf(tools.major, major);
  const properties = await findProperties(connection, source, whole, target);

  const { promised = { roles: [], tablespaces: [] } } = request;
  const present = [...(await listTablespaces(connection)), ...promised.tablespaces];
  const absent = (dumped?.tablespaces ?? []).filter((name) => !present.includes(name));
  const isThere = (await findDatabase(connection, target)) !== undefined;
  const freeBytes = facts.isLocal && facts.dataDirectory ? await freeBytesOf(facts.dataDirectory) : undefined;
  const { sessions } = await connection.queryOne<{ sessions: number }>(
    "select count(*)::int as sessions from pg_stat_activity where datname = $1 and backend_type = 'client backend'",
    [target],
  );

  const isWhole = !whole.isPart && whole.selection.contents !== DumpContents.DATA_ONLY;
  const isRefilled = isInto && isWhole && dumped?.name === target && builtInDatabases.has(target);

  let scope = whole;
  const needed = whole.isPart ? undefined : dumped?.sizeBytes;
  const items: Item[] = [
    { name: "backup", message: describeSource(source, whole) },
    { name: "connection", message: `PostgreSQL ${major} answers at ${formatAddress(endpoint)}` },
    await look("version", signal, () => {
      if (serverMajor === 0) return { message: "the dump does not say of which major version it is" };
      requireRestorable(serverMajor, major);
      return { message: `a dump of PostgreSQL ${serverMajor} goes into PostgreSQL ${major}` };
    }),
    await look("tools", signal, async () => {
      if (source.format === "plain" || isByScript) await requireRestrictedMode(access, signal);
      if (source.folder !== undefined) await requireReadableFolder(source.folder, access, signal);
      const message = `tools ${tools.version}`;
      if (!isByScript || command.jobs <= 1 || isInto) return { message };
      return { message, warning: `tools of ${tools.major} load into a server of ${major} by one job only` };
    }),
    await look("primary", signal, () => {
      if (facts.inRecovery) fail("CLUSTER_READ_ONLY", `the server at ${formatAddress(endpoint)} is a standby`);
      return { message: "the server is a primary" };
    }),
    ...(isInto ? [] : [await look("privileges", signal, () => seePrivileges(connection))]),
    await look("target", signal, () => seeTarget(connection, command)),
    await look("roles", signal, () => seeRoles(connection, rolesOf(whole, source), promised.roles)),
    await look("space", signal, () => seeSpace("the server's data directory", freeBytes, needed)),
  ];
  if (isInto && isThere && whole.entries)
    items.push(
      await look("clashes", signal, async () => {
        scope = fitInto(whole, await readDatabaseContents(access, target, signal), target);
        return { message: `nothing of it is in the database ${JSON.stringify(target)} yet` };
      }),
    );
  if (isInto && !whole.entries)
    items.push({
      name: "clashes",
      message: "a SQL script",
      warning: "what clashes shows when it runs; then nothing is changed",
    });
  const extensions = (scope.entries ?? []).filter(({ kind }) => kind === "EXTENSION").map(({ name }) => name);
  if (extensions.length > 0) items.push(await look("extensions", signal, () => seeExtensions(connection, extensions)));
  if (!isInto && !facts.inRecovery) items.push(await look("locale", signal, () => seeLocale(connection, properties)));
  items.push(await look("connections", signal, () => seeConnections(connection, Math.max(1, command.jobs) + 2)));
  if (command.jobs > 1 && source.folder === undefined && !isInto && !isByScript)
    items.push(
      await look("work-space", signal, async () =>
        seeSpace(`the agent's folder ${request.workFolder}`, await freeBytesOf(request.workFolder), dumped?.sizeBytes),
      ),
    );
  if (absent.length > 0)
    items.push({
      name: "tablespaces",
      message: `the cluster has no tablespace ${quoteNames(absent)}`,
      warning: "everything goes into the default tablespace",
    });
  if (source.leftOut.length > 0)
    items.push({ name: "left-out", message: `${source.title} leaves out`, warning: source.leftOut.join(", ") });
  for (const warning of scope.warnings) items.push({ name: "selection", message: "not all comes along", warning });
  return {
    items,
    source,
    scope,
    properties,
    endpoint,
    access,
    lacksToolSettings: !knowsSettingsOf(Math.max(tools.major, toolMajor), major),
    adminDatabase,
    isInto,
    presentStatements: isRefilled
      ? presentStatements(target, properties).filter(({ what }) => what !== "owner" || !whole.selection.noOwner)
      : [],
    replaces: isThere && mayReplace,
    tablespace:
      properties.tablespace !== "pg_default" && present.includes(properties.tablespace)
        ? properties.tablespace
        : undefined,
    keepsTablespaces: absent.length === 0,
    freeBytes,
    sessionsToEnd: isThere && mayReplace ? sessions : 0,
  };
}

function describeSource({ title, format }: RestoreSource, { entries, isPart }: Scope): string {
  if (!entries) return `${title} is plain SQL`;
  return `${title} holds ${isPart ? "what was selected" : "the database"}, ${entries.length} objects, ${format} format`;
}

function describeSteps(command: RestoreDatabaseCommand, plan: RestorePlan): string[] {
  const [target, staged] = [command.targetDatabase, command.stagedDatabase].map((name) => JSON.stringify(name));
  const { source } = plan;
  const compare = source.contents
    ? "compare it with the archive's table of contents and count its rows"
    : "count its rows; a SQL script lists no objects to compare";
  if (plan.isInto)
    return [
      `load ${source.title} into the database ${target}, all of it in one transaction or nothing`,
      compare,
      ...(plan.presentStatements.length > 0 ? ["give it its owner, privileges, settings, comment and limits"] : []),
    ];
  return [
    `create the database ${staged} beside what is there`,
    `load ${source.title} into it${source.dumped ? ", every object's digest checked" : ""}`,
    compare,
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
 * Says what a restore would do and whether it would be refused; changes nothing. Fails when source or cluster cannot be
 * looked at, or the selection makes no sense for the source.
 */
export async function planRestore(request: RestoreToPlan): Promise<PlanRestoreResult> {
  const plan = await inspectRestore(request);
  return create(PlanRestoreResultSchema, {
    items: plan.items.map(toCheckItem),
    steps: describeSteps(request.command, plan),
    storedBytes: plan.source.storedBytes,
    databaseBytes: plan.source.dumped?.sizeBytes ?? 0n,
    ...(plan.freeBytes === undefined ? {} : { freeBytes: plan.freeBytes }),
    sessionsToEnd: plan.sessionsToEnd,
    keptAs: plan.replaces ? request.command.keptDatabase : "",
  });
}
