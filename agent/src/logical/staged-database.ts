import type { DatabaseProperties } from "@coppice/proto/gen/coppice/repository/v1/database_properties";
import type { PostgresConnection } from "../postgres/connect.ts";
import { toPostgresFailure } from "../postgres/postgres-failure.ts";
import { quoteIdentifier } from "../postgres/quote.ts";
import { createDatabaseStatement, propertyStatements } from "./database-statements.ts";

/** The oid of a database, or undefined when there is none of that name. */
export async function findDatabase(connection: PostgresConnection, name: string): Promise<number | undefined> {
  const [row] = await connection.query<{ oid: string }>("select oid::text from pg_database where datname = $1", [name]);
  return row && Number(row.oid);
}

/**
 * Creates the database that a restore fills, closed to all but superusers where the login role is one; gives its oid.
 * `tablespace` undefined is the default one.
 */
export async function createStagedDatabase(
  connection: PostgresConnection,
  { name, properties, tablespace }: { name: string; properties: DatabaseProperties; tablespace: string | undefined },
): Promise<number> {
  await connection.query(createDatabaseStatement(name, properties, tablespace));
  const { oid, superuser } = await connection.queryOne<{ oid: string; superuser: boolean }>(
    `select d.oid::text, r.rolsuper as superuser from pg_database d, pg_roles r
     where d.datname = $1 and r.rolname = current_user`,
    [name],
  );
  // A connection limit does not bind superusers.
  if (superuser) await connection.query(`ALTER DATABASE ${quoteIdentifier(name)} WITH CONNECTION LIMIT 0`);
  return Number(oid);
}

/**
 * Gives a database the properties that CREATE DATABASE does not, in one transaction. What cannot be given is returned,
 * a line each; what would leave the database more open than the original is thrown instead.
 */
export async function applyProperties(
  connection: PostgresConnection,
  name: string,
  properties: DatabaseProperties,
): Promise<string[]> {
  const warnings: string[] = [];
  await connection.query("BEGIN");
  try {
    for (const { what, text, asRole, isRequired } of propertyStatements(name, properties)) {
      await connection.query("SAVEPOINT property");
      try {
        if (asRole !== undefined) await connection.query(`SET LOCAL ROLE ${quoteIdentifier(asRole)}`);
        await connection.query(text);
        if (asRole !== undefined) await connection.query("RESET ROLE");
      } catch (error) {
        const failure = toPostgresFailure(error, connection.endpoint);
        if (isRequired || failure.metadata.sqlstate === undefined) throw error;
        await connection.query("ROLLBACK TO SAVEPOINT property");
        warnings.push(`${what}: ${failure.message}`);
      }
    }
    await connection.query("COMMIT");
  } catch (error) {
    await connection.query("ROLLBACK").catch(() => {});
    throw error;
  }
  return warnings;
}

/** Ends the sessions of a database and drops it; says whether there was one. */
export async function dropStagedDatabase(connection: PostgresConnection, name: string): Promise<boolean> {
  if ((await findDatabase(connection, name)) === undefined) return false;
  await connection.query(`DROP DATABASE IF EXISTS ${quoteIdentifier(name)} WITH (FORCE)`);
  return true;
}
