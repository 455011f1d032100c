import { isDeepStrictEqual } from "node:util";
import { DumpContents } from "@coppice/proto/gen/coppice/common/v1/dump_options";
import type { DatabaseProperties } from "@coppice/proto/gen/coppice/repository/v1/database_properties";
import type { PostgresConnection } from "../../postgres/connect.ts";
import { listDatabases } from "../databases.ts";
import type { RestorePlan } from "../plan.ts";

type Kept = keyof DatabaseProperties &
  ("comment" | "connectionLimit" | "grants" | "owner" | "securityLabels" | "settings");

const names: Readonly<Record<Kept, string>> = {
  owner: "owner",
  grants: "privileges",
  settings: "settings",
  connectionLimit: "connection limit",
  comment: "comment",
  securityLabels: "security labels",
};

/**
 * What of a database itself a restore into it has left as it was although the backup has it otherwise, for people to
 * read: only a restore that makes the database anew gives it its properties. Nothing of a part, of rows alone, or of a
 * file, which are no restore of the database. Fails like a query.
 */
export async function keptProperties(
  connection: PostgresConnection,
  { source, scope, properties }: Pick<RestorePlan, "source" | "scope" | "properties">,
  database: string,
): Promise<string[]> {
  const { noOwner, noPrivileges, contents, schemas, tables } = scope.selection;
  const isPart = schemas.length > 0 || tables.length > 0;
  if (!source.dumped || isPart || contents === DumpContents.DATA_ONLY) return [];
  const present = (await listDatabases(connection)).find(({ name }) => name === database)?.properties;
  if (!present) return [];
  const left = new Set<Kept>([
    ...(noOwner ? (["owner"] as const) : []),
    ...(noPrivileges ? (["grants"] as const) : []),
  ]);
  const different = (Object.keys(names) as Kept[]).filter(
    (each) => !left.has(each) && !isDeepStrictEqual(plain(present[each]), plain(properties[each])),
  );
  if (different.length === 0) return [];
  const list = different.map((each) => names[each]).join(", ");
  return [`the database ${JSON.stringify(database)} itself is as it was: the backup has other ${list}`];
}

/** Messages that were read from a manifest have names of types that those of a query lack. */
function plain(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value ?? null, (key, each: unknown) => (key === "$typeName" ? undefined : each)));
}
