import { create } from "@bufbuild/protobuf";
import {
  type DatabaseProperties,
  DatabasePropertiesSchema,
} from "@coppice/proto/gen/coppice/repository/v1/database_properties";
import type { PostgresConnection } from "../../postgres/connect.ts";
import type { ArchiveContents } from "../archive/contents.ts";
import { listDatabases } from "../databases.ts";

/** The options of the CREATE DATABASE that an archive holds, as pg_dump writes it. */
function parseOptions(definition: string): Map<string, string> {
  const option = /\b([A-Z_]+) = (?:E?'((?:[^']|'')*)'|(\w+))/g;
  return new Map(
    [...definition.matchAll(option)].map(([, name = "", quoted, plain]) => [
      name,
      quoted?.replaceAll("''", "'") ?? plain ?? "",
    ]),
  );
}

/** The properties of a new database for a dump without a manifest: those that an archive tells, else template0's. */
async function newProperties(
  connection: PostgresConnection,
  contents: ArchiveContents | undefined,
): Promise<DatabaseProperties> {
  const databases = await listDatabases(connection);
  const template = databases.find(({ name }) => name === "template0")?.properties;
  const { owner } = await connection.queryOne<{ owner: string }>("select current_user::text as owner");
  const plain = { hasAcl: false, grants: [], settings: [], securityLabels: [], connectionLimit: -1, isTemplate: false };
  const base = create(DatabasePropertiesSchema, {
    ...(template ?? create(DatabasePropertiesSchema)),
    ...plain,
    owner,
    tablespace: "pg_default",
  });
  delete base.comment;
  const definition = contents?.entries.find(({ kind }) => kind === "DATABASE")?.definition;
  const options = parseOptions(definition ?? "");
  const encoding = options.get("ENCODING");
  if (encoding === undefined) return base;
  const [both, locale] = [options.get("LOCALE"), options.get("ICU_LOCALE") ?? options.get("BUILTIN_LOCALE")];
  const rules = options.get("ICU_RULES");
  delete base.locale;
  delete base.icuRules;
  return create(DatabasePropertiesSchema, {
    ...base,
    encoding,
    localeProvider: (options.get("LOCALE_PROVIDER") ?? "libc").toLowerCase(),
    lcCollate: options.get("LC_COLLATE") ?? both ?? base.lcCollate,
    lcCtype: options.get("LC_CTYPE") ?? both ?? base.lcCtype,
    ...(locale === undefined ? {} : { locale }),
    ...(rules === undefined ? {} : { icuRules: rules }),
  });
}

/** The properties of a database restored from a file: of the one it takes the place of, else of a new one. */
export async function propertiesForFile(
  connection: PostgresConnection,
  contents: ArchiveContents | undefined,
  target: string,
): Promise<DatabaseProperties> {
  const present = (await listDatabases(connection)).find(({ name }) => name === target);
  return present?.properties ?? (await newProperties(connection, contents));
}
