import { createHash, randomInt } from "node:crypto";
import type { DatabaseProperties } from "@coppice/proto/gen/coppice/repository/v1/database_properties";
import { fail, isFailure } from "@coppice/proto/kit/failure";
import type { PostgresConnection } from "../postgres/connect.ts";
import { toPostgresFailure } from "../postgres/postgres-failure.ts";
import { quoteIdentifier } from "../postgres/quote.ts";
import { createDatabaseStatement, type PropertyStatement } from "./database-statements.ts";

/**
 * What a session that creates a staged database calls itself: the statement outlives a killed agent, and until it ends
 * nobody sees the database. Shorter than the 63 bytes that a server keeps.
 */
const creatorName = (stagedDatabase: string) => `coppice ${stagedDatabase}`;
const creatorEndMs = 10_000;

/** Positive also where somebody reads an oid as a signed number, and far above what a server counts up to by itself. */
const base = 2 ** 30;
const attempts = 2 ** 8;

function ownRange(stagedDatabase: string): number {
  const hash = createHash("sha256").update(stagedDatabase).digest().readUInt32BE(0) >>> 10;
  return base + hash * attempts;
}

/**
 * An oid for a staged database that tells by itself which restore has made it: a rename keeps it, so that a lost swap
 * can be told from one that never was with nothing written into the database. One of 256, because what a crashed server
 * left of an earlier attempt may still occupy another one.
 */
export function chooseStagedOid(stagedDatabase: string): number {
  return ownRange(stagedDatabase) + randomInt(attempts);
}

/** Whether chooseStagedOid chose the oid for a staged database of that name. */
export function isStagedOid(oid: number, stagedDatabase: string): boolean {
  const first = ownRange(stagedDatabase);
  return oid >= first && oid < first + attempts;
}

/** The oid of a database, or undefined when there is none of that name. */
export async function findDatabase(connection: PostgresConnection, name: string): Promise<number | undefined> {
  const [row] = await connection.query<{ oid: string }>("select oid::text from pg_database where datname = $1", [name]);
  return row && Number(row.oid);
}

/** Has a session go by the name of a staged database, so that endCreators ends it. */
export async function nameSession(connection: PostgresConnection, stagedDatabase: string): Promise<void> {
  await connection.query("select set_config('application_name', $1, false)", [creatorName(stagedDatabase)]);
}

/** Closes a database that waits for a decision to all but superusers; its own limit is given back by the swap. */
export async function closeHeld(connection: PostgresConnection, name: string): Promise<void> {
  await connection.query(`ALTER DATABASE ${quoteIdentifier(name)} WITH CONNECTION LIMIT 0`);
}

/**
 * Creates the database that a restore fills, closed to all but superusers where the login role is one, and otherwise to
 * all but its owner; gives its oid, which isStagedOid knows again. `tablespace` undefined is the default one.
 */
export async function createStagedDatabase(
  connection: PostgresConnection,
  { name, properties, tablespace }: { name: string; properties: DatabaseProperties; tablespace: string | undefined },
): Promise<number> {
  const oid = chooseStagedOid(name);
  await nameSession(connection, name);
  await connection.query(createDatabaseStatement({ name, oid, tablespace }, properties));
  const { superuser } = await connection.queryOne<{ superuser: boolean }>(
    "select rolsuper as superuser from pg_roles where rolname = current_user",
  );
  const database = quoteIdentifier(name);
  // A connection limit does not bind superusers; the login role of anybody else would be bound by it.
  if (superuser) await connection.query(`ALTER DATABASE ${database} WITH CONNECTION LIMIT 0`);
  else await connection.query(`REVOKE CONNECT ON DATABASE ${database} FROM PUBLIC`);
  return oid;
}

/**
 * The statement that opens a staged database that createStagedDatabase has closed to others, where no privileges of the
 * original do; none where it is open. Fails like a query.
 */
export async function openingStatements(
  connection: PostgresConnection,
  name: string,
  { hasAcl }: DatabaseProperties,
): Promise<PropertyStatement[]> {
  if (hasAcl) return [];
  const { closed } = await connection.queryOne<{ closed: boolean }>(
    `select not exists (select from aclexplode(coalesce(datacl, acldefault('d', datdba))) a
       where a.grantee = 0 and a.privilege_type = 'CONNECT') as closed from pg_database where datname = $1`,
    [name],
  );
  if (!closed) return [];
  const text = `GRANT CONNECT ON DATABASE ${quoteIdentifier(name)} TO PUBLIC`;
  return [{ what: "privileges", text, asRole: undefined, isRequired: true }];
}

/**
 * Runs statements that give a database properties, in one transaction. What cannot be given is returned,
 * a line each; what would leave the database more open than the original is thrown instead.
 */
export async function applyProperties(
  connection: PostgresConnection,
  statements: readonly PropertyStatement[],
): Promise<string[]> {
  const warnings: string[] = [];
  await connection.query("BEGIN");
  try {
    for (const { what, text, asRole, isRequired } of statements) {
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

/**
 * As applyProperties, for a database that is filled already: what does not come along any more is returned, and no reason
 * to call the restore failed.
 */
export async function applyToPresent(
  connection: PostgresConnection,
  statements: readonly PropertyStatement[],
): Promise<string[]> {
  if (statements.length === 0) return [];
  return await applyProperties(connection, statements).catch((error: unknown) => {
    if (!isFailure(error)) throw error;
    return [`owner, privileges and settings of the database were not given: ${error.message}`];
  });
}

/**
 * Ends the other sessions that go by the name of a staged database: those that may still create it, or swap or drop it.
 * Fails with DATABASE_IN_USE when one remains.
 */
export async function endCreators(connection: PostgresConnection, name: string): Promise<void> {
  const creators = await connection.query<{ pid: number; ended: boolean }>(
    `select pid, pg_terminate_backend(pid, ${creatorEndMs}) as ended from pg_stat_activity
     where application_name = $1 and pid <> pg_backend_pid()`,
    [creatorName(name)],
  );
  const left = creators.find(({ ended }) => !ended);
  if (left)
    fail("DATABASE_IN_USE", `the server's process ${left.pid} still works on the database ${name} and does not end`, {
      hint: "look at that process, then try again",
    });
}

/**
 * Ends the sessions that create a staged database or are in it, and drops it; says whether there was one. Afterwards
 * none comes into being any more. With an oid only the database of that oid is meant: another one of its name is another
 * restore's and stays. Fails with DATABASE_IN_USE when its creation cannot be ended, or as connections do.
 */
export async function dropStagedDatabase(connection: PostgresConnection, name: string, oid?: number): Promise<boolean> {
  if (oid === undefined) await endCreators(connection, name);
  const found = await findDatabase(connection, name);
  if (found === undefined || (oid !== undefined && found !== oid)) return false;
  await connection.query(`DROP DATABASE IF EXISTS ${quoteIdentifier(name)} WITH (FORCE)`);
  return true;
}
