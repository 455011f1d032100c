import { openConnection, type PostgresConnection } from "../../postgres/connect.ts";
import type { ResolvedEndpoint } from "../../postgres/endpoint.ts";
import { quoteIdentifier } from "../../postgres/quote.ts";

/** What initdb makes has lower oids. (FirstNormalObjectId in PostgreSQL's transam.h.) */
const firstOwnOid = 16_384;

/** Whatever can be made in a database: each is in one of these catalogs. */
const catalogs = [
  "pg_class",
  "pg_proc",
  "pg_type",
  "pg_namespace",
  "pg_extension",
  "pg_largeobject_metadata",
  "pg_operator",
  "pg_cast",
  "pg_language",
  "pg_event_trigger",
  "pg_publication",
  "pg_foreign_data_wrapper",
];

/** Name under which a database that initdb made waits for its end, from the swap to the drop. */
export function initialName(database: string): string {
  return `coppice_initial_${database}`;
}

/** Whether nobody has made anything in a database since initdb made it. Fails like a connection. */
export async function isUntouched(endpoint: ResolvedEndpoint, database: string, signal: AbortSignal): Promise<boolean> {
  await using connection = await openConnection(endpoint, { database, signal });
  const own = catalogs.map(
    (catalog) =>
      `exists (select from ${catalog} where oid >= ${firstOwnOid}${catalog === "pg_namespace" ? " and nspname !~ '^pg_(toast_)?temp_'" : ""})`,
  );
  const { touched } = await connection.queryOne<{ touched: boolean }>(`select ${own.join(" or ")} as touched`);
  return !touched;
}

/** Drops a database that initdb made and that was swapped out. Fails like a statement. */
export async function dropInitial(connection: PostgresConnection, name: string): Promise<void> {
  await connection.query(`ALTER DATABASE ${quoteIdentifier(name)} WITH IS_TEMPLATE false`);
  await connection.query(`DROP DATABASE ${quoteIdentifier(name)} WITH (FORCE)`);
}
