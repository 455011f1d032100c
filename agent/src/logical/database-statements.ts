import type { DatabaseProperties, DatabaseSetting } from "@coppice/proto/gen/coppice/repository/v1/database_properties";
import { quoteIdentifier, quoteLiteral } from "../postgres/quote.ts";

/** One statement that gives a database one of its properties. */
export interface PropertyStatement {
  /** The property, for messages. */
  readonly what: string;
  readonly text: string;
  /** Role that it has to be run as; undefined is the login role. */
  readonly asRole: string | undefined;
  /** Without it the database would be more open, or more closed, than the original was. */
  readonly isRequired: boolean;
}

/**
 * Settings whose stored value is a list of quoted names and would be taken for one name as a plain literal, as pg_dump
 * knows them too (variable_is_guc_list_quote in its dumputils.c).
 */
const listSettings = new Set([
  "local_preload_libraries",
  "search_path",
  "session_preload_libraries",
  "shared_preload_libraries",
  "temp_tablespaces",
  "unix_socket_directories",
]);

/** The names of a stored list such as `"$user", public`. */
function splitList(value: string): string[] {
  return [...value.matchAll(/\s*(?:"((?:[^"]|"")*)"|([^,"]+))\s*(?:,|$)/g)].map(
    ([, quoted, plain]) => quoted?.replaceAll('""', '"') ?? plain?.trim() ?? "",
  );
}

function settingValue({ name, value }: DatabaseSetting): string {
  if (!listSettings.has(name.toLowerCase())) return quoteLiteral(value);
  const names = splitList(value);
  return names.length === 0 ? "''" : names.map(quoteLiteral).join(", ");
}

/**
 * The statement that creates a database with what cannot be changed later; `tablespace` undefined is the default one,
 * `oid` undefined leaves the choice to the server.
 */
export function createDatabaseStatement(
  { name, oid, tablespace }: { name: string; oid?: number; tablespace: string | undefined },
  properties: DatabaseProperties,
): string {
  const parts = [
    `CREATE DATABASE ${quoteIdentifier(name)} WITH${oid === undefined ? "" : ` OID ${oid}`} TEMPLATE template0`,
    `OWNER ${quoteIdentifier(properties.owner)}`,
    `ENCODING ${quoteLiteral(properties.encoding)} LOCALE_PROVIDER ${quoteIdentifier(properties.localeProvider)}`,
    `LC_COLLATE ${quoteLiteral(properties.lcCollate)} LC_CTYPE ${quoteLiteral(properties.lcCtype)}`,
  ];
  const localeOption = properties.localeProvider === "icu" ? "ICU_LOCALE" : "BUILTIN_LOCALE";
  if (properties.locale !== undefined) parts.push(`${localeOption} ${quoteLiteral(properties.locale)}`);
  if (properties.icuRules !== undefined) parts.push(`ICU_RULES ${quoteLiteral(properties.icuRules)}`);
  if (tablespace !== undefined) parts.push(`TABLESPACE ${quoteIdentifier(tablespace)}`);
  return parts.join(" ");
}

function grantStatements(database: string, properties: DatabaseProperties): PropertyStatement[] {
  if (!properties.hasAcl) return [];
  const what = "privileges";
  const revokes = ["PUBLIC", quoteIdentifier(properties.owner)].map((role) => ({
    what,
    text: `REVOKE ALL ON DATABASE ${database} FROM ${role}`,
    asRole: undefined,
    isRequired: true,
  }));
  // In the order of the list, where a right to grant on comes before what was granted by it.
  const grants = properties.grants.map(({ grantor, grantee, privilege, grantable }) => {
    const to = grantee === "" ? "PUBLIC" : quoteIdentifier(grantee);
    const option = grantable ? " WITH GRANT OPTION" : "";
    return {
      what: `${what} of ${grantee || "PUBLIC"}`,
      text: `GRANT ${privilege} ON DATABASE ${database} TO ${to}${option}`,
      asRole: grantor === properties.owner ? undefined : grantor,
      isRequired: false,
    };
  });
  return [...revokes, ...grants];
}

/**
 * The statements that give a database the properties that CREATE DATABASE does not: privileges, settings, comment,
 * labels. They may all run in one transaction.
 */
export function propertyStatements(name: string, properties: DatabaseProperties): PropertyStatement[] {
  const database = quoteIdentifier(name);
  const optional = (what: string, text: string): PropertyStatement => ({
    what,
    text,
    asRole: undefined,
    isRequired: false,
  });
  const statements = grantStatements(database, properties);
  for (const setting of properties.settings) {
    const whose = setting.role ? `ROLE ${quoteIdentifier(setting.role)} IN DATABASE` : "DATABASE";
    const text = `ALTER ${whose} ${database} SET ${quoteIdentifier(setting.name)} TO ${settingValue(setting)}`;
    statements.push(optional(`setting ${setting.name}${setting.role ? ` of ${setting.role}` : ""}`, text));
  }
  if (properties.comment !== undefined)
    statements.push(optional("comment", `COMMENT ON DATABASE ${database} IS ${quoteLiteral(properties.comment)}`));
  for (const { provider, label } of properties.securityLabels)
    statements.push(
      optional(
        `security label of ${provider}`,
        `SECURITY LABEL FOR ${quoteIdentifier(provider)} ON DATABASE ${database} IS ${quoteLiteral(label)}`,
      ),
    );
  return statements;
}

/** Databases that every new cluster has: a restore fills them, and gives them their properties. */
export const builtInDatabases: ReadonlySet<string> = new Set(["postgres", "template1"]);

/** The statements that give a database that is there already all properties that can be changed. */
export function presentStatements(name: string, properties: DatabaseProperties): PropertyStatement[] {
  const plain = { asRole: undefined, isRequired: false };
  const owner = `ALTER DATABASE ${quoteIdentifier(name)} OWNER TO ${quoteIdentifier(properties.owner)}`;
  return [
    { ...plain, what: "owner", text: owner },
    ...propertyStatements(name, properties).map((statement) => ({ ...statement, isRequired: false })),
    { ...plain, what: "connection limit and template mark", text: admissionStatement(name, properties) },
  ];
}

/** The statement that gives a database its connection limit and makes it a template or not. */
export function admissionStatement(
  name: string,
  { connectionLimit, isTemplate }: Pick<DatabaseProperties, "connectionLimit" | "isTemplate">,
): string {
  return `ALTER DATABASE ${quoteIdentifier(name)} WITH CONNECTION LIMIT ${connectionLimit} IS_TEMPLATE ${isTemplate}`;
}
