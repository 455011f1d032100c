import { create } from "@bufbuild/protobuf";
import {
  type CheckClusterResult,
  CheckClusterResultSchema,
  type ClusterFacts,
} from "@coppice/proto/gen/coppice/agent/v1/check_cluster";
import { CheckStatus } from "@coppice/proto/gen/coppice/common/v1/check";
import type { Connection } from "@coppice/proto/gen/coppice/common/v1/connection";
import { isFailure } from "@coppice/proto/kit/failure";
import { runProgram } from "../../host/run.ts";
import { openConnection, type PostgresConnection } from "../connect.ts";
import { type ClientFiles, formatAddress, isSocket, type ResolvedEndpoint, resolveEndpoint } from "../endpoint.ts";
import { readFacts } from "../facts.ts";
import { majorOf, requireSupported } from "../majors.ts";
import { quoteIdentifier } from "../quote.ts";
import { findToolAccess } from "../tool-access.ts";
import { findTools } from "../tools.ts";
import { listUnreadable } from "./unreadable.ts";

interface Item {
  name: string;
  status: CheckStatus;
  message: string;
  fix: string;
}

const ok = (name: string, message: string): Item => ({ name, status: CheckStatus.OK, message, fix: "" });
const warning = (name: string, message: string, fix: string): Item => ({
  name,
  status: CheckStatus.WARNING,
  message,
  fix,
});

function failed(name: string, error: unknown): Item {
  // What is no Failure is a mistake of ours, and no answer about the cluster.
  if (!isFailure(error)) throw error;
  return { name, status: CheckStatus.FAILED, message: error.message, fix: error.hint };
}

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
  const { reads_all, reads_passwords } = await connection.queryOne<{ reads_all: boolean; reads_passwords: boolean }>(`
    select pg_has_role(current_user, 'pg_read_all_data', 'usage') as reads_all,
      has_table_privilege('pg_catalog.pg_authid', 'select') as reads_passwords`);
  const items: Item[] = [];
  if (reads_all) items.push(ok("privileges", `${role} may read all data`));
  else {
    const message = `${role} is no superuser and may not read all data: dumps of tables it has no right to will fail`;
    items.push(warning("privileges", message, `GRANT pg_read_all_data TO ${role};`));
  }
  for (const { message, fix } of await listUnreadable(connection, signal))
    items.push(warning("contents", message, fix));
  if (!reads_passwords) {
    const message = "the passwords of roles cannot be read: globals are dumped without them";
    // A catalog of all databases, with privileges in each; pg_dumpall reads it in this one.
    const where = `-- in the database ${quoteIdentifier(connection.endpoint.maintenanceDatabase)}`;
    items.push(warning("role-passwords", message, `GRANT SELECT ON pg_catalog.pg_authid TO ${role}; ${where}`));
  }
  return items;
}

async function checkDatabases(connection: PostgresConnection): Promise<Item[]> {
  const forbidden = await connection.query<{ name: string }>(
    "select datname as name from pg_database where not datallowconn and datname <> 'template0' order by 1",
  );
  return forbidden.map(({ name }) =>
    warning(
      "databases",
      `the database ${JSON.stringify(name)} forbids connections: it cannot be dumped, and a backup without excluding it by name is incomplete`,
      `ALTER DATABASE ${quoteIdentifier(name)} ALLOW_CONNECTIONS true;`,
    ),
  );
}

/**
 * Connects to a cluster and looks whether it can be dumped; changes nothing. What does not work is an item of the
 * result with what mends it; it throws only the signal's reason.
 */
export async function checkCluster(request: {
  connection: Connection | undefined;
  /** The opened password, where the connection has one. */
  password: string | undefined;
  files: ClientFiles;
  signal: AbortSignal;
}): Promise<CheckClusterResult> {
  const { signal } = request;
  const items: Item[] = [];
  let facts: ClusterFacts | undefined;
  try {
    const endpoint = await resolveEndpoint(request.connection?.endpoint, request.password, request.files);
    items.push(...checkPeer(endpoint));
    await using connection = await openConnection(endpoint, { signal });
    facts = await readFacts(connection);
    requireSupported(facts.serverVersionNum);
    const major = majorOf(facts.serverVersionNum);
    items.unshift(ok("connection", `PostgreSQL ${major} answers at ${formatAddress(endpoint)}`));
    if (facts.inRecovery) items.push(ok("role", "it is a standby: it can be dumped, not restored into"));
    items.push(...(await checkTools(endpoint, major, signal)));
    items.push(...(await checkPrivileges(connection, facts, signal)));
    items.push(...(await checkDatabases(connection)));
  } catch (error) {
    signal.throwIfAborted();
    items.unshift(failed("connection", error));
  }
  return create(CheckClusterResultSchema, { items, ...(facts ? { facts } : {}) });
}
