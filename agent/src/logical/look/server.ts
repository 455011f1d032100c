import type { DatabaseProperties } from "@coppice/proto/gen/coppice/repository/v1/database_properties";
import { fail, isFailure } from "@coppice/proto/kit/failure";
import type { PostgresConnection } from "../../postgres/connect.ts";
import { quoteIdentifier, quoteLiteral } from "../../postgres/quote.ts";
import { quoteNames, type Sight } from "../../host/look.ts";

/** Whether the login role may create databases. Fails with PRIVILEGE_MISSING. */
export async function seePrivileges(connection: PostgresConnection): Promise<Sight> {
  const role = await connection.queryOne<{ name: string; may_create: boolean }>(
    "select rolname::text as name, rolsuper or rolcreatedb as may_create from pg_roles where rolname = current_user",
  );
  const name = JSON.stringify(role.name);
  if (!role.may_create) fail("PRIVILEGE_MISSING", `the role ${name} may not create databases`);
  return { message: `the role ${name} may create databases` };
}

/** Whether the roles exist, or are made first. Fails with ROLE_MISSING naming those that are not. */
export async function seeRoles(
  connection: PostgresConnection,
  roles: readonly string[],
  promised: readonly string[],
): Promise<Sight> {
  const needed = [...new Set(roles)].filter(Boolean);
  const rows = await connection.query<{ name: string }>("select rolname::text as name from pg_roles");
  const absent = needed.filter((role) => !rows.some(({ name }) => name === role));
  const missing = absent.filter((role) => !promised.includes(role));
  if (missing.length > 0)
    fail("ROLE_MISSING", `the database needs roles that do not exist in the cluster: ${quoteNames(missing)}`);
  if (absent.length > 0)
    return { message: `of the ${needed.length} roles that it needs ${absent.length} are made first` };
  return { message: `all ${needed.length} roles that it needs exist` };
}

/** Whether the server could create the extensions. Fails with EXTENSION_MISSING. */
export async function seeExtensions(connection: PostgresConnection, extensions: readonly string[]): Promise<Sight> {
  const rows = await connection.query<{ name: string }>("select name::text as name from pg_available_extensions");
  const missing = extensions.filter((extension) => !rows.some(({ name }) => name === extension));
  if (missing.length > 0) fail("EXTENSION_MISSING", `the server does not have the extensions ${quoteNames(missing)}`);
  return { message: `all ${extensions.length} extensions that it needs can be created` };
}

/** Whether there is room for the connections of a restore; only a warning, because others come and go. */
export async function seeConnections(connection: PostgresConnection, needed: number): Promise<Sight> {
  const { most, used } = await connection.queryOne<{ most: number; used: number }>(
    `select current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int as most,
       (select count(*)::int from pg_stat_activity where backend_type = 'client backend') as used`,
  );
  const message = `${used} of ${most} connections are in use, and ${needed} are needed`;
  return used + needed > most ? { message, warning: "the server may refuse some of them" } : { message };
}

function collationStatement({ localeProvider, lcCollate, lcCtype, locale }: DatabaseProperties): string | undefined {
  const ofLibc = `PROVIDER = libc, LC_COLLATE = ${quoteLiteral(lcCollate)}, LC_CTYPE = ${quoteLiteral(lcCtype)}`;
  if (localeProvider === "libc")
    return ["C", "POSIX"].includes(lcCollate) && lcCollate === lcCtype ? undefined : ofLibc;
  return `PROVIDER = ${quoteIdentifier(localeProvider)}, LOCALE = ${quoteLiteral(locale ?? lcCollate)}`;
}

/**
 * Whether the server has the database's locale: it is asked to make a collation of it in a transaction that is rolled
 * back. Fails with LOCALE_MISSING.
 */
export async function seeLocale(connection: PostgresConnection, properties: DatabaseProperties): Promise<Sight> {
  const locale = properties.locale ?? properties.lcCollate;
  const name = `${properties.localeProvider} ${JSON.stringify(locale)}`;
  const statement = collationStatement(properties);
  if (statement === undefined) return { message: `the locale ${name} is everywhere` };
  const { encoding } = await connection.queryOne<{ encoding: string }>(
    "select pg_encoding_to_char(encoding)::text as encoding from pg_database where datname = current_database()",
  );
  try {
    await connection.query("BEGIN");
    await connection.query(`CREATE COLLATION pg_temp.coppice_locale (${statement})`);
    return { message: `the server has the locale ${name}` };
  } catch (error) {
    if (!isFailure(error) || error.metadata.sqlstate === undefined) throw error;
    const isSaid = ["22023", "42704", "0A000", "42602", "22P02"].includes(error.metadata.sqlstate);
    // A locale of another encoding than the asking database's is refused for that alone.
    if (!isSaid || encoding !== properties.encoding)
      return { message: `the locale ${name}`, warning: "whether the server has it shows when the database is made" };
    return fail("LOCALE_MISSING", `the server does not have the locale ${name}: ${error.message}`, { cause: error });
  } finally {
    await connection.query("ROLLBACK");
  }
}
