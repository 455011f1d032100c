import { create } from "@bufbuild/protobuf";
import {
  type CheckClusterResult,
  CheckClusterResultSchema,
  type ClusterFacts,
} from "@coppice/proto/gen/coppice/agent/v1/check_cluster";
import { type AppliedStatement, CheckItemSchema, CheckStatus } from "@coppice/proto/gen/coppice/common/v1/check";
import type { Connection } from "@coppice/proto/gen/coppice/common/v1/connection";
import { fail } from "@coppice/proto/kit/failure";
import { runProgram } from "../../host/run.ts";
import { openLook, type PostgresConnection } from "../connect.ts";
import { type ClientFiles, formatAddress, isSocket, type ResolvedEndpoint, resolveEndpoint } from "../endpoint.ts";
import { readFacts } from "../facts.ts";
import { majorOf, requireSupported } from "../majors.ts";
import { quoteIdentifier } from "../quote.ts";
import { findToolAccess } from "../tool-access.ts";
import { findTools } from "../tools.ts";
import { applyFixes } from "./apply-fixes.ts";
import { failed, type Item, mendable, ok, onStandby, warning } from "./item.ts";
import { checkPhysical } from "./physical.ts";
import { listUnreadable, type Unreadable } from "./unreadable.ts";

function checkPeer(endpoint: ResolvedEndpoint): Item[] {
  if (process.getuid?.() !== 0 || !isSocket(endpoint)) return [];
  return [
    ok(
      "peer",
      "the agent runs as root: its tools run as the server's user, its own connections as root by password or pg_ident.conf",
    ),
  ];
}

async function checkTools(endpoint: ResolvedEndpoint, major: number, signal: AbortSignal): Promise<Item[]> {
  try {
    const tools = await findTools(major, { signal });
    const access = await findToolAccess(endpoint, { tools, signal });
    const args = ["--no-psqlrc", "--tuples-only", "--no-align", "--command=select 1"];
    await runProgram(access.connecting("psql", endpoint.maintenanceDatabase, args), { signal });
    await runProgram({ file: "zstd", args: ["--version"] }, { signal });
    const user = access.user ? ` as ${access.user.name}` : "";
    return [ok("tools", `tools ${tools.version} in ${tools.folder} connect${user}`)];
  } catch (error) {
    signal.throwIfAborted();
    return [failed("tools", error)];
  }
}

async function checkPrivileges(connection: PostgresConnection, facts: ClusterFacts, signal: AbortSignal) {
  const role = quoteIdentifier(connection.endpoint.user);
  if (facts.superuser) return [ok("privileges", `${role} is a superuser`)];
  const { reads_all, reads_settings, reads_passwords } = await connection.queryOne<{
    reads_all: boolean;
    reads_settings: boolean;
    reads_passwords: boolean;
  }>(`
    select pg_has_role(current_user, 'pg_read_all_data', 'usage') as reads_all,
      pg_has_role(current_user, 'pg_read_all_settings', 'usage') as reads_settings,
      has_table_privilege('pg_catalog.pg_authid', 'select') as reads_passwords`);
  const items: Item[] = [];
  if (reads_all) items.push(ok("privileges", `${role} may read all data`));
  else {
    const message = `${role} is no superuser and may not read all data: dumps of tables it has no right to will fail`;
    items.push(mendable("privileges", message, { statements: [`GRANT pg_read_all_data TO ${role};`] }));
  }
  if (!reads_settings) {
    const message = `${role} may not see where the server's data directory and its configuration are: WAL is not archived by archive_command (--mode push), and physical backups leave out configuration that lies elsewhere`;
    items.push(mendable("settings", message, { statements: [`GRANT pg_read_all_settings TO ${role};`] }));
  }
  for (const unreadable of await listUnreadable(connection, signal)) items.push(contents(unreadable));
  if (!reads_passwords) {
    const message = "the passwords of roles cannot be read: globals are dumped without them";
    // A catalog of all databases, with privileges in each; pg_dumpall reads it in this one.
    const note = `in the database ${quoteIdentifier(connection.endpoint.maintenanceDatabase)}`;
    const statements = [`GRANT SELECT ON pg_catalog.pg_authid TO ${role};`];
    items.push(mendable("role-passwords", message, { statements, note }));
  }
  return items;
}

async function checkDatabases(connection: PostgresConnection): Promise<Item[]> {
  const forbidden = await connection.query<{ name: string }>(
    "select datname as name from pg_database where not datallowconn and datname <> 'template0' order by 1",
  );
  return forbidden.map(({ name }) => ({
    ...mendable(
      "databases",
      `the database ${JSON.stringify(name)} forbids connections: it cannot be dumped, and a backup without excluding it by name is incomplete`,
      { statements: [`ALTER DATABASE ${quoteIdentifier(name)} ALLOW_CONNECTIONS true;`] },
    ),
    database: name,
  }));
}

/** All that a connected cluster is looked at for. */
async function look(connection: PostgresConnection, facts: ClusterFacts, signal: AbortSignal): Promise<Item[]> {
  const { endpoint } = connection;
  const major = majorOf(facts.serverVersionNum);
  const items = [ok("connection", `PostgreSQL ${major} answers at ${formatAddress(endpoint)}`), ...checkPeer(endpoint)];
  if (facts.inRecovery)
    items.push(ok("role", "it is a standby: it can be dumped and backed up physically, not restored into"));
  items.push(...(await checkTools(endpoint, major, signal)));
  const changeable = [
    ...(await checkPrivileges(connection, facts, signal)),
    ...(await checkDatabases(connection)),
    ...(await checkPhysical(connection, facts, signal)),
  ];
  return [...items, ...(facts.inRecovery ? changeable.map(onStandby) : changeable)];
}

/**
 * Connects to a cluster and looks whether it can be protected; changes nothing, but by those of the confirmed statements
 * that mend what it finds at once, and then it looks again. What does not work is an item of the result with what mends
 * it; it throws only the signal's reason.
 */
export async function checkCluster(request: {
  connection: Connection | undefined;
  /** The opened password, where the connection has one. */
  password: string | undefined;
  files: ClientFiles;
  /** What its system identifier has to be; empty or left out: any. */
  expectedSystemIdentifier?: string;
  /** Statements that somebody has read and confirmed. */
  fixStatements?: readonly string[];
  /** Told each statement that was run. */
  log?: (line: string) => void;
  /** As openLook takes it. */
  answerMs?: number;
  signal: AbortSignal;
}): Promise<CheckClusterResult> {
  const { signal, fixStatements: confirmed = [], log = () => {}, answerMs } = request;
  const result = create(CheckClusterResultSchema);
  try {
    const endpoint = await resolveEndpoint(request.connection?.endpoint, request.password, request.files);
    await using connection = await openLook(endpoint, { signal, answerMs });
    const facts = await readFacts(connection);
    const { expectedSystemIdentifier: expected = "" } = request;
    if (expected !== "" && expected !== facts.systemIdentifier)
      fail(
        "CLUSTER_CHANGED",
        `the server at ${formatAddress(endpoint)} belongs to another cluster: its system identifier is ${facts.systemIdentifier} instead of ${expected}`,
        {
          hint: "forget it with `coppice cluster remove-instance CLUSTER HOST`, or give the right endpoint with `coppice cluster update CLUSTER --instance HOST --endpoint ENDPOINT`; of a cluster that was made anew forget the other servers first",
        },
      );
    // Nothing of another cluster is believed.
    result.facts = facts;
    requireSupported(facts.serverVersionNum);
    let items = await look(connection, facts, signal);
    if (confirmed.length > 0) {
      const before = items;
      const onApplied = (applied: AppliedStatement) => void result.applied.push(applied);
      await applyFixes(connection, before, { confirmed, onApplied, log, signal });
      items = await look(connection, facts, signal);
      result.mended = toMessages(before.filter((item) => isTrouble(item) && !items.some((now) => isSame(now, item))));
    }
    result.items = toMessages(items);
  } catch (error) {
    signal.throwIfAborted();
    result.items.unshift(create(CheckItemSchema, toMessage(failed("connection", error))));
  }
  return result;
}

const isTrouble = ({ status }: Item) => status !== CheckStatus.OK;
// Messages count what comes and goes.
const isSame = (a: Item, b: Item) => a.name === b.name && a.fix === b.fix;
const toMessage = ({ statements, ...item }: Item) => ({ ...item, statements: [...statements] });
const toMessages = (items: readonly Item[]) => items.map((item) => create(CheckItemSchema, toMessage(item)));

function contents({ database, message, fix, statements, note }: Unreadable): Item {
  const item =
    statements.length > 0 ? mendable("contents", message, { statements, note }) : warning("contents", message, fix);
  return { ...item, database };
}
