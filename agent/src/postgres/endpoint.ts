import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import type { Endpoint } from "@coppice/proto/gen/coppice/common/v1/connection";
import { fail } from "@coppice/proto/kit/failure";
import { findPassword } from "./password-file.ts";
import { parseService, type ServiceSettings } from "./service-file.ts";

/** Where libpq would look on this host; paths as in its environment variables of the same names. */
export interface ClientFiles {
  /** Home folder of the agent's user: .pg_service.conf, .pgpass, .postgresql/. */
  readonly home: string;
  readonly serviceFile?: string | undefined;
  readonly systemFolder?: string | undefined;
  readonly passwordFile?: string | undefined;
}

export const sslModes = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] as const;
export type SslMode = (typeof sslModes)[number];

/** An endpoint with everything the host's files say about it; nothing is left to be looked up. */
export interface ResolvedEndpoint {
  /** Folder of a Unix socket when it begins with a slash, else a host name or address. */
  readonly host: string;
  /** Address to connect to instead of looking `host` up. */
  readonly hostAddress: string | undefined;
  readonly port: number;
  readonly user: string;
  readonly maintenanceDatabase: string;
  readonly sslMode: SslMode;
  /** File with trusted roots, or the word system. */
  readonly sslRootCert: string | undefined;
  readonly sslCert: string | undefined;
  readonly sslKey: string | undefined;
  /** The password for a database, where one is known; asked only when the server wants one. */
  readonly passwordFor: (database: string) => string | undefined;
  /** Why the host's password file was not read, if it exists. */
  readonly passwordFileProblem: string | undefined;
}

const defaultSocketFolder = "/var/run/postgresql";
/** Debian's libpq is built with this folder for pg_service.conf. */
const defaultSystemFolder = "/etc/postgresql-common";

/** What libpq would read in the agent's own place: its home and its environment. */
export function agentClientFiles(environment: Readonly<Record<string, string | undefined>>, home: string): ClientFiles {
  return {
    home,
    serviceFile: environment.PGSERVICEFILE,
    systemFolder: environment.PGSYSCONFDIR,
    passwordFile: environment.PGPASSFILE,
  };
}

async function readIfThere(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, "utf8");
  } catch (error) {
    if (error instanceof Error && "code" in error && (error.code === "ENOENT" || error.code === "ENOTDIR"))
      return undefined;
    throw error;
  }
}

async function findService(service: string, files: ClientFiles): Promise<ServiceSettings> {
  const candidates = [
    files.serviceFile ?? join(files.home, ".pg_service.conf"),
    join(files.systemFolder ?? defaultSystemFolder, "pg_service.conf"),
  ];
  for (const file of candidates) {
    const text = await readIfThere(file).catch((cause: unknown) =>
      fail("CONNECTION_SERVICE_INVALID", `${file} cannot be read`, { cause }),
    );
    const settings = text === undefined ? undefined : parseService(text, service, file);
    if (settings) return settings;
  }
  return fail("CONNECTION_SERVICE_INVALID", `the service ${service} is in none of ${candidates.join(", ")}`);
}

interface PasswordFile {
  readonly text: string;
  readonly problem: string | undefined;
}

async function readPasswordFile(file: string): Promise<PasswordFile> {
  try {
    const { mode } = await stat(file);
    if ((mode & 0o170000) !== 0o100000) return { text: "", problem: `${file} is not a plain file` };
    // libpq ignores such a file too.
    if ((mode & 0o077) !== 0) return { text: "", problem: `${file} is open to others (it has to be 0600)` };
    return { text: await readFile(file, "utf8"), problem: undefined };
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : undefined;
    if (code === "ENOENT" || code === "ENOTDIR") return { text: "", problem: undefined };
    return { text: "", problem: `${file} cannot be read (${String(code)})` };
  }
}

async function defaultFile(home: string, name: string): Promise<string | undefined> {
  const file = join(home, ".postgresql", name);
  return (await stat(file).catch(() => undefined))?.isFile() ? file : undefined;
}

function parsePort(text: string): number {
  const port = Number(text);
  return /^\d{1,5}$/.test(text) && port > 0 && port <= 65_535
    ? port
    : fail("CONNECTION_SERVICE_INVALID", `the service's port ${JSON.stringify(text)} is not a port number`);
}

function parseSslMode(text: string): SslMode {
  const mode = sslModes.find((each) => each === text);
  return mode ?? fail("CONNECTION_SERVICE_INVALID", `the sslmode ${JSON.stringify(text)} is unknown`);
}

/**
 * Resolves an endpoint as libpq would: the endpoint's own fields, then the host's service file, then defaults; password
 * given, else of the service, else of the password file. Fails with CONNECTION_SERVICE_INVALID or INVALID_FIELD.
 */
export async function resolveEndpoint(
  endpoint: Endpoint | undefined,
  password: string | undefined,
  files: ClientFiles,
): Promise<ResolvedEndpoint> {
  const service: ServiceSettings = endpoint?.service ? await findService(endpoint.service, files) : {};
  const hasOwnAddress = endpoint?.address.case !== undefined;
  const host = endpoint?.address.value ?? service.host ?? service.hostaddr ?? defaultSocketFolder;
  if (!host.startsWith("/") && host.includes(","))
    fail("INVALID_FIELD", `${JSON.stringify(host)} is more than one host`, { hint: "name one host" });
  const hostAddress = hasOwnAddress ? undefined : service.hostaddr;
  const port = endpoint?.port || parsePort(service.port ?? "5432");
  const user = endpoint?.user || service.user || "postgres";
  const given = password ?? service.password;
  const file = await readPasswordFile(service.passfile ?? files.passwordFile ?? join(files.home, ".pgpass"));
  const isDefaultSocket = host === defaultSocketFolder || host === "/run/postgresql";
  const hosts = isDefaultSocket ? [host, "localhost"] : [host];
  return {
    host,
    hostAddress,
    port,
    user,
    maintenanceDatabase: endpoint?.maintenanceDatabase || service.dbname || "postgres",
    sslMode: parseSslMode(endpoint?.sslmode || service.sslmode || "prefer"),
    sslRootCert: endpoint?.sslrootcert || service.sslrootcert || (await defaultFile(files.home, "root.crt")),
    sslCert: service.sslcert ?? (await defaultFile(files.home, "postgresql.crt")),
    sslKey: service.sslkey ?? (await defaultFile(files.home, "postgresql.key")),
    passwordFor: (database) => given ?? findPassword(file.text, { hosts, port, database, user }),
    passwordFileProblem: file.problem,
  };
}

/** Whether the server is reached by a Unix socket on this host. */
export function isSocket(endpoint: ResolvedEndpoint): boolean {
  return endpoint.host.startsWith("/");
}

/** The server's address for messages; no secret, no user. */
export function formatAddress({ host, port }: ResolvedEndpoint): string {
  return host.startsWith("/") ? `${host}/.s.PGSQL.${port}` : `${host.includes(":") ? `[${host}]` : host}:${port}`;
}
