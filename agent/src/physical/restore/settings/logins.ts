import type { PhysicalContent } from "@coppice/proto/gen/coppice/repository/v1/physical_content";
import { fail, isFailure } from "@coppice/proto/kit/failure";
import { openConnection, type PostgresConnection } from "../../../postgres/connect.ts";
import type { ResolvedEndpoint } from "../../../postgres/endpoint.ts";

/** As whom, and to which databases, a restored server may let its agent in: nobody knows before it is asked. */
export interface Logins {
  readonly roles: readonly string[];
  readonly databases: readonly string[];
}

/** What says that another role or database is to be tried, and that this one will not do later either. */
const inVain = [
  "DATABASE_NOT_FOUND",
  "LOGIN_REFUSED",
  "POSTGRES_REFUSED",
  "PRIVILEGE_MISSING",
  "ROLE_MISSING",
] as const;

/** Of a backup's server: its bootstrap role as it was seen, and what most servers have. */
export function loginsOf({ bootstrapRole, maintenanceDatabase }: PhysicalContent): Logins {
  // Nothing else than that can be said in pg_hba.conf.
  const canBeSaid = (name: string) => name !== "" && !/["\n\r]/.test(name);
  return {
    roles: [...new Set([bootstrapRole, "postgres"].filter(canBeSaid))],
    databases: [...new Set([maintenanceDatabase, "postgres", "template1"].filter((name) => name !== ""))],
  };
}

/** A name as pg_hba.conf and pg_ident.conf take it, without a meaning of its own. */
export function quoteLogin(name: string): string {
  return `"${name}"`;
}

/** A restored server by its socket in that folder, as the first of the logins. */
export function socketEndpoint(folder: string, port: number, { roles, databases }: Logins): ResolvedEndpoint {
  return {
    host: folder,
    hostAddress: undefined,
    port,
    user: roles[0] ?? "postgres",
    maintenanceDatabase: databases[0] ?? "postgres",
    sslMode: "disable",
    sslRootCert: undefined,
    sslCert: undefined,
    sslKey: undefined,
    passwordFor: () => undefined,
    passwordFileProblem: undefined,
  };
}

/**
 * A connection by the first of the logins that the server takes, and the endpoint that it was. Fails with LOGIN_REFUSED
 * where none will do, ever; as openConnection where the server cannot be asked yet.
 */
export async function openLogin(
  endpoint: ResolvedEndpoint,
  { roles, databases }: Logins,
  signal: AbortSignal,
): Promise<{ connection: PostgresConnection; endpoint: ResolvedEndpoint }> {
  const problems: string[] = [];
  for (const user of roles)
    for (const maintenanceDatabase of databases) {
      const tried = { ...endpoint, user, maintenanceDatabase };
      try {
        return { connection: await openConnection(tried, { signal, connectTimeoutMs: 5000 }), endpoint: tried };
      } catch (error) {
        if (!isFailure(error) || !inVain.some((reason) => reason === error.reason)) throw error;
        problems.push(error.message);
      }
    }
  return fail("LOGIN_REFUSED", `the restored server lets nobody in who could ask it: ${problems.join("; ")}`, {
    hint: "the agent tries the bootstrap role of the backup and postgres, in postgres, template1 and the database that the backup was taken by",
  });
}
