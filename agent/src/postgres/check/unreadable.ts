import { isFailure } from "@coppice/proto/kit/failure";
import { openLook, type PostgresConnection, slowAnswer } from "../connect.ts";
import { quoteIdentifier } from "../quote.ts";

/** What the login role may not read in one database, so that a dump of it fails. */
export interface Unreadable {
  readonly database: string;
  readonly message: string;
  /** The statements that mend it; none where it takes something else, which `fix` says. */
  readonly statements: readonly string[];
  /** What else they do. */
  readonly note: string;
  readonly fix: string;
}

const examples = 3;

interface Row {
  readonly tables: string;
  readonly someTables: readonly string[] | null;
  readonly secured: string;
  readonly largeObjects: string;
}

/** What pg_dump reads, and what it says of row security: it asks for all rows, and is refused where a policy applies. */
const question = `
  with mine as (
    select oid, format('%I.%I', relnamespace::regnamespace::text, relname) as name, relkind, relowner, relrowsecurity,
      has_table_privilege(oid, 'select') as readable
    from pg_class
    where relkind in ('r', 'p', 'm', 'S') and relpersistence <> 't'
      and relnamespace::regnamespace::text !~ '^pg_' and relnamespace::regnamespace::text <> 'information_schema')
  select (select count(*) from mine where not readable) as tables,
    (select (array_agg(name order by name))[1:${examples}] from mine where not readable) as "someTables",
    (select count(*) from mine where readable and row_security_active(oid)) as secured,
    (select count(*) from pg_largeobject_metadata
      where current_setting('lo_compat_privileges') = 'off' and not pg_has_role(lomowner, 'usage')
        and not exists (select from aclexplode(lomacl) where privilege_type = 'SELECT'
          and (grantee = 0 or pg_has_role(grantee, 'usage')))) as "largeObjects"`;

const by = (statement: string, note = "") => ({ statements: [statement], note, fix: "" });

async function look(connection: PostgresConnection): Promise<Unreadable[]> {
  const { database, endpoint } = connection;
  const role = quoteIdentifier(endpoint.user);
  const { tables, someTables, secured, largeObjects } = await connection.queryOne<Row>(question, [], slowAnswer);
  const within = `the database ${JSON.stringify(database)}`;
  const found: Unreadable[] = [];
  if (tables !== "0") {
    const some = (someTables ?? []).join(", ") + (Number(tables) > examples ? " …" : "");
    const message = `${within} has ${tables} tables or sequences that ${role} may not read, and its dump fails: ${some}`;
    found.push({ database, message, ...by(`GRANT pg_read_all_data TO ${role};`) });
  }
  if (secured !== "0")
    found.push({
      database,
      message: `${within} has ${secured} tables whose row security hides rows from ${role}, and its dump fails`,
      ...by(`ALTER ROLE ${role} BYPASSRLS;`),
    });
  if (largeObjects !== "0")
    found.push({
      database,
      message: `${within} has ${largeObjects} large objects of others that ${role} may not read, and its dump fails`,
      ...by(`ALTER ROLE ${role} SET lo_compat_privileges = on;`, "it may write them then, too"),
    });
  return found;
}

/**
 * Looks into every database that can be dumped for what the login role may not read. A database that does not let it in
 * is one of them. Fails with the signal's reason.
 */
export async function listUnreadable(connection: PostgresConnection, signal: AbortSignal): Promise<Unreadable[]> {
  const { endpoint } = connection;
  // What a restore works in, or has left for a decision, is in no dump, and may be closed; its oid is none that a server
  // counts up to.
  const databases = await connection.query<{ name: string }>(
    `select datname as name from pg_database where datallowconn and datname <> 'template0'
       and not (datname ~ '^coppice_restore_' and oid::bigint >= ${2 ** 30}) order by 1`,
  );
  const found: Unreadable[] = [];
  for (const { name: database } of databases) {
    try {
      await using inside = await openLook(endpoint, { database, signal });
      found.push(...(await look(inside)));
    } catch (error) {
      signal.throwIfAborted();
      if (!isFailure(error)) throw error;
      const grant = `GRANT CONNECT ON DATABASE ${quoteIdentifier(database)} TO ${quoteIdentifier(endpoint.user)};`;
      const message = `the database ${JSON.stringify(database)} cannot be looked into, and its dump fails: ${error.message}`;
      const fix = { statements: [], note: "", fix: error.hint };
      found.push({ database, message, ...(error.reason === "PRIVILEGE_MISSING" ? by(grant) : fix) });
    }
  }
  return found;
}
