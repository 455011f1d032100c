import { clone, create } from "@bufbuild/protobuf";
import { type Endpoint, EndpointSchema } from "@coppice/proto/gen/coppice/common/v1/connection";
import { Option } from "commander";
import { fail } from "@coppice/proto/kit/failure";
import { integerOption } from "./options.ts";

/** Flags that say where and how a PostgreSQL server is reached. */
export interface EndpointOptions {
  readonly endpoint?: string;
  readonly port?: number;
  readonly user?: string;
  readonly maintenanceDatabase?: string;
  readonly sslmode?: string;
  readonly sslrootcert?: string;
  readonly service?: string;
}

/** Those flags, for commands that take them. */
export const endpointOptions = () => [
  new Option(
    "--endpoint <server>",
    "where it listens, seen from the agent: /folder/of/its/socket[:PORT] or HOST[:PORT]",
  ),
  integerOption("--port <port>", "port, or number of the socket (5432)", 1, 65_535),
  new Option("--user <role>", "role to log in as (postgres)"),
  new Option("--maintenance-database <name>", "database to connect to for work on the whole cluster (postgres)"),
  new Option("--sslmode <mode>", "TLS as libpq's sslmode").choices([
    "disable",
    "allow",
    "prefer",
    "require",
    "verify-ca",
    "verify-full",
  ]),
  new Option("--sslrootcert <file>", "trusted roots, a file on the agent's host"),
  new Option("--service <name>", "service of the connection service file on the agent's host"),
];

/**
 * The endpoint that the flags describe, over what is known already; undefined when there is no flag.
 * Fails with INVALID_FIELD.
 */
export function endpointFromOptions(options: EndpointOptions, known?: Endpoint): Endpoint | undefined {
  const { endpoint: server, port, user, maintenanceDatabase, sslmode, sslrootcert, service } = options;
  const values = [server, port, user, maintenanceDatabase, sslmode, sslrootcert, service];
  if (values.every((value) => value === undefined)) return undefined;
  const endpoint = known ? clone(EndpointSchema, known) : create(EndpointSchema);
  if (server?.startsWith("/")) {
    // As it is shown elsewhere: a number behind the folder is the socket's.
    const [, folder = server, number] = /^(.+):(\d{1,5})$/s.exec(server) ?? [];
    endpoint.address = { case: "socketDirectory", value: folder };
    if (number !== undefined) endpoint.port = portOf(number, server);
  } else if (server !== undefined) {
    const { host, port } = parseServer(server);
    endpoint.address = { case: "host", value: host };
    if (port !== undefined) endpoint.port = port;
  }
  if (port !== undefined) endpoint.port = port;
  if (user !== undefined) endpoint.user = user;
  if (maintenanceDatabase !== undefined) endpoint.maintenanceDatabase = maintenanceDatabase;
  if (sslmode !== undefined) endpoint.sslmode = sslmode;
  if (sslrootcert !== undefined) endpoint.sslrootcert = sslrootcert;
  if (service !== undefined) endpoint.service = service;
  return endpoint;
}

function parseServer(text: string): { host: string; port?: number } {
  const [, bracketed, plain, portText] = /^(?:\[([0-9a-fA-F:.%a-z]+)\]|([^\s/:@]+))(?::(\d{1,5}))?$/.exec(text) ?? [];
  const host = bracketed ?? plain ?? (/^[0-9a-fA-F:]*:[0-9a-fA-F:.]*$/.test(text) ? text : undefined);
  if (host === undefined) return refuseEndpoint(text);
  return portText === undefined ? { host } : { host, port: portOf(portText, text) };
}

function portOf(number: string, endpoint: string): number {
  const port = Number(number);
  return port >= 1 && port <= 65_535 ? port : refuseEndpoint(endpoint);
}

function refuseEndpoint(text: string): never {
  return fail("INVALID_FIELD", `${text} is not an endpoint`, {
    hint: "write the folder of the socket, such as /run/postgresql, or HOST[:PORT]; a user and a password have flags of their own",
  });
}

/** An endpoint for people: `/run/postgresql:5432` or `db.example.org:5432`. */
export function formatEndpoint(endpoint: Endpoint | undefined): string {
  if (!endpoint) return "-";
  const { address, port, service } = endpoint;
  if (address.case === undefined) return service ? `service ${service}` : "-";
  const host = address.case === "host" && address.value.includes(":") ? `[${address.value}]` : address.value;
  return `${host}:${port || 5432}`;
}
