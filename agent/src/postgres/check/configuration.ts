import type { ClusterFacts } from "@coppice/proto/gen/coppice/agent/v1/check_cluster";
import type { PostgresConnection } from "../connect.ts";
import { quoteIdentifier } from "../quote.ts";
import { type Item, mendable } from "./item.ts";

interface Row {
  readonly outside: readonly string[];
  readonly mayCall: boolean;
  readonly mayRead: boolean;
}

/**
 * Looks whether a physical backup can read the configuration that lies outside the data directory, as Debian has it. A role
 * that may not see where it lies hears of that elsewhere. Fails like a query.
 */
export async function checkConfiguration(
  connection: PostgresConnection,
  { dataDirectory }: ClusterFacts,
): Promise<Item[]> {
  if (dataDirectory === "") return [];
  const { outside, mayCall, mayRead } = await connection.queryOne<Row>(
    `select has_function_privilege('pg_catalog.pg_read_binary_file(text,bigint,bigint)', 'execute') as "mayCall",
      pg_has_role('pg_read_server_files', 'usage') as "mayRead",
      array(select path from (
        select setting as path from pg_settings where name in ('config_file', 'hba_file', 'ident_file')
        union select sourcefile from pg_settings) files
      where path <> '' and not starts_with(path, $1) order by path) as outside`,
    [`${dataDirectory}/`],
  );
  if (outside.length === 0 || (mayCall && mayRead)) return [];
  const { user, maintenanceDatabase } = connection.endpoint;
  const role = quoteIdentifier(user);
  const message = `${role} may not read ${outside.join(", ")}: physical backups leave them out, and what is restored gets plain ones`;
  const statements = [
    ...(mayRead ? [] : [`GRANT pg_read_server_files TO ${role};`]),
    ...(mayCall ? [] : [`GRANT EXECUTE ON FUNCTION pg_read_binary_file(text, bigint, bigint) TO ${role};`]),
  ];
  const note = `in the database ${quoteIdentifier(maintenanceDatabase)}; the role may read every file then that the server may`;
  return [mendable("configuration", message, { statements, note })];
}
