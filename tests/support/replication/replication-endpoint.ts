import type { ResolvedEndpoint } from "../../../agent/src/postgres/endpoint.ts";
import type { PostgresServer } from "../postgres-servers.ts";

/** The way to a test's server by loopback with its superuser's password, or with what is given instead. */
export function replicationEndpoint(server: PostgresServer, over: Partial<ResolvedEndpoint> = {}): ResolvedEndpoint {
  return {
    host: "127.0.0.1",
    hostAddress: undefined,
    port: server.port,
    user: server.superuser,
    maintenanceDatabase: "postgres",
    sslMode: "disable",
    sslRootCert: undefined,
    sslCert: undefined,
    sslKey: undefined,
    passwordFor: () => server.password,
    passwordFileProblem: undefined,
    ...over,
  };
}
