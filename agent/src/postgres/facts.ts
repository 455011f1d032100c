import { stat } from "node:fs/promises";
import { networkInterfaces } from "node:os";
import { create } from "@bufbuild/protobuf";
import { type ClusterFacts, ClusterFactsSchema } from "@coppice/proto/gen/coppice/agent/v1/check_cluster";
import type { Connection } from "@coppice/proto/gen/coppice/common/v1/connection";
import { fail } from "@coppice/proto/kit/failure";
import { type PostgresConnection, slowAnswer } from "./connect.ts";
import { formatAddress, isSocket, type ResolvedEndpoint } from "./endpoint.ts";

interface FactsRow {
  system_identifier: string;
  server_version_num: string;
  in_recovery: boolean;
  superuser: boolean;
  data_directory: string | null;
  server_address: string | null;
}

interface DatabaseRow {
  name: string;
  size_bytes: string | null;
  allow_connections: boolean;
}

async function isOwnHost(connection: PostgresConnection, row: FactsRow): Promise<boolean> {
  if (isSocket(connection.endpoint)) return true;
  const own = Object.values(networkInterfaces()).flatMap((entries) => (entries ?? []).map(({ address }) => address));
  if (row.server_address === null || !own.includes(row.server_address)) return false;
  // A loopback address may belong to a forwarded port: the folder has to be here too.
  if (row.data_directory === null) return true;
  return (await stat(row.data_directory).catch(() => undefined))?.isDirectory() ?? false;
}

/** What a cluster says of itself. Fails like a query. */
export async function readFacts(connection: PostgresConnection): Promise<ClusterFacts> {
  const row = await connection.queryOne<FactsRow>(`
    select (select system_identifier::text from pg_control_system()) as system_identifier,
      current_setting('server_version_num') as server_version_num,
      pg_is_in_recovery() as in_recovery,
      (select rolsuper from pg_roles where rolname = current_user) as superuser,
      (select setting from pg_settings where name = 'data_directory') as data_directory,
      host(inet_server_addr()) as server_address`);
  const databases = await connection.query<DatabaseRow>(
    `select datname as name, datallowconn as allow_connections,
      case when has_database_privilege(oid, 'connect') or pg_has_role(current_user, 'pg_read_all_stats', 'usage')
        then pg_database_size(oid)::text end as size_bytes
    from pg_database where not datistemplate order by datname`,
    [],
    slowAnswer,
  );
  return create(ClusterFactsSchema, {
    systemIdentifier: row.system_identifier,
    serverVersionNum: Number(row.server_version_num),
    dataDirectory: row.data_directory ?? "",
    inRecovery: row.in_recovery,
    superuser: row.superuser,
    isLocal: await isOwnHost(connection, row),
    databases: databases.map((database) => ({
      name: database.name,
      allowConnections: database.allow_connections,
      ...(database.size_bytes === null ? {} : { sizeBytes: BigInt(database.size_bytes) }),
    })),
  });
}

/** Refuses a server that is not what it has to be, and was when it was chosen. Fails with INSTANCE_ROLE_CHANGED. */
export function requireRole(
  connection: Connection | undefined,
  endpoint: ResolvedEndpoint,
  { inRecovery }: ClusterFacts,
): void {
  const { standby } = connection ?? {};
  if (standby === undefined || standby === inRecovery) return;
  const [is, was] = inRecovery ? ["a standby", "the primary"] : ["a primary", "a standby"];
  fail("INSTANCE_ROLE_CHANGED", `the server at ${formatAddress(endpoint)} is ${is} by now, and ${was} was asked for`);
}
