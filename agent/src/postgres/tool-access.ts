import { stat } from "node:fs/promises";
import { join } from "node:path";
import { fail } from "@coppice/proto/kit/failure";
import { lookUpUser, type OsUser } from "../host/os-user.ts";
import type { Program } from "../host/program.ts";
import { formatAddress, isSocket, type ResolvedEndpoint } from "./endpoint.ts";
import { formatConninfo } from "./quote.ts";
import { type ToolName, toolPath, type Tools } from "./tools.ts";

/** How PostgreSQL's tools get to a server. */
export interface ToolAccess {
  readonly tools: Tools;
  /** The user that the tools run as; undefined is the agent's own. */
  readonly user: OsUser | undefined;
  /**
   * The tool with these arguments, connecting to this database; it asks nobody for anything. Its sessions have the
   * application name; "coppice" when left out.
   */
  connecting(name: ToolName, database: string, args: readonly string[], applicationName?: string): Program;
  /** The tool with these arguments alone, without a connection. */
  offline(name: ToolName, args: readonly string[]): Program;
}

/**
 * The user that the tools run as, or undefined for the agent's own. As root and over a socket it is the owner of the
 * data directory (the server's user, who owns the socket): with peer the uid decides. Fails with CLUSTER_UNREACHABLE.
 */
export async function findToolUser(endpoint: ResolvedEndpoint, signal: AbortSignal): Promise<OsUser | undefined> {
  if (process.getuid?.() !== 0 || !isSocket(endpoint)) return undefined;
  const socket = await stat(join(endpoint.host, `.s.PGSQL.${endpoint.port}`)).catch((cause: unknown) =>
    fail("CLUSTER_UNREACHABLE", `there is no socket ${formatAddress(endpoint)}`, { cause }),
  );
  return socket.uid === 0 ? undefined : lookUpUser(socket.uid, signal);
}

/**
 * Lines of stderr to keep out of logs and errors: the tools repeat the statement that failed, and a statement goes on
 * in lines that do not begin with the program's name.
 */
export function quotesStatement(line: string): boolean {
  return !/^(pg_dump|pg_dumpall|pg_restore|psql|setpriv): /.test(line) || /(command|query) was:/i.test(line);
}

/** Prepares the tools for an endpoint. `connectTimeoutMs` is 10 s when left out. */
export async function findToolAccess(
  endpoint: ResolvedEndpoint,
  { tools, signal, connectTimeoutMs = 10_000 }: { tools: Tools; signal: AbortSignal; connectTimeoutMs?: number },
): Promise<ToolAccess> {
  const user = await findToolUser(endpoint, signal);

  function connecting(name: ToolName, database: string, args: readonly string[], applicationName = "coppice"): Program {
    const password = endpoint.passwordFor(database);
    const conninfo = formatConninfo({
      host: endpoint.host,
      hostaddr: endpoint.hostAddress,
      port: endpoint.port,
      user: endpoint.user,
      dbname: database,
      sslmode: endpoint.sslMode,
      sslrootcert: endpoint.sslRootCert,
      sslcert: endpoint.sslCert,
      sslkey: endpoint.sslKey,
      // libpq counts in seconds, and takes 1 for 2.
      connect_timeout: Math.max(2, Math.ceil(connectTimeoutMs / 1000)),
      application_name: applicationName,
    });
    return {
      file: toolPath(tools, name),
      args: [...args, "--no-password", `--dbname=${conninfo}`],
      // By the child's environment and not a password file: after a kill -9 no file is left. The other variable keeps
      // the tools from finding another password in somebody's home.
      env: password === undefined ? { PGPASSFILE: "/nonexistent" } : { PGPASSWORD: password },
      ...(user ? { user } : {}),
      forks: name === "pg_dumpall" || name === "pg_restore",
      hidesLine: quotesStatement,
    };
  }

  function offline(name: ToolName, args: readonly string[]): Program {
    return { file: toolPath(tools, name), args, ...(user ? { user } : {}), hidesLine: quotesStatement };
  }

  return { tools, user, connecting, offline };
}

/** The same access, for sessions that write although the role, the database or the server has them read only. */
export function allowWrites(access: ToolAccess): ToolAccess {
  return {
    ...access,
    connecting(...given) {
      const program = access.connecting(...given);
      return { ...program, env: { ...program.env, PGOPTIONS: "-c default_transaction_read_only=off" } };
    },
  };
}
