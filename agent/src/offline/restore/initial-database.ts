import { openConnection, type PostgresConnection } from "../../postgres/connect.ts";
import type { ResolvedEndpoint } from "../../postgres/endpoint.ts";
import { quoteIdentifier } from "../../postgres/quote.ts";

/** What initdb makes has lower oids. (FirstNormalObjectId in PostgreSQL's transam.h.) */
const firstOwnOid = 16_384;

/** Name under which a database that initdb made waits for its end, from the swap to the drop. */
export function initialName(database: string): string {
  return `coppice_initial_${database}`;
}

/** Whether nobody has made anything in a database since initdb made it. Fails like a connection. */
export async function isUntouched(endpoint: ResolvedEndpoint, database: string, signal: AbortSignal): Promise<boolean> {
  await using connection = await openConnection(endpoint, { database, signal });
  // Whatever can be made in a database has an oid in one of its own catalogs, which majors add to.
  const catalogs = await connection.query<{ name: string }>(
    `select c.oid::regclass::text as name from pg_class c join pg_attribute a on a.attrelid = c.oid
     where c.relnamespace = 'pg_catalog'::regnamespace and c.relkind = 'r' and not c.relisshared and a.attname = 'oid'`,
  );
  const own = catalogs.map(
    ({ name }) =>
      `exists (select from ${name} where oid >= ${firstOwnOid}${name === "pg_namespace" ? " and nspname !~ '^pg_(toast_)?temp_'" : ""})`,
  );
  const { touched } = await connection.queryOne<{ touched: boolean }>(`select ${own.join(" or ")} as touched`);
  return !touched;
}

/** Drops a database that initdb made and that was swapped out. Fails like a statement. */
export async function dropInitial(connection: PostgresConnection, name: string): Promise<void> {
  await connection.query(`ALTER DATABASE ${quoteIdentifier(name)} WITH IS_TEMPLATE false`);
  await connection.query(`DROP DATABASE ${quoteIdentifier(name)} WITH (FORCE)`);
}
