import { DumpContents } from "@coppice/proto/gen/coppice/common/v1/dump_options";
import type { RestoreSelection } from "@coppice/proto/gen/coppice/common/v1/restore_selection";
import { fail } from "@coppice/proto/kit/failure";
import { quoteNames } from "../host/look.ts";
import type { ArchiveContents } from "../logical/archive/contents.ts";
import type { PostgresConnection } from "../postgres/connect.ts";
import { isNamed, type Relation } from "./choose-relations.ts";

/** What is dumped, and how; `isForPeople`: nothing is in the dump but what was chosen. */
export interface Dumping {
  readonly selection: Pick<RestoreSelection, "schemas" | "tables" | "contents">;
  readonly isForPeople: boolean;
}

/** Why a relation comes back not at all or empty, and what helps. */
interface Lack {
  readonly is: string;
  readonly hint: string;
}

const namedAtMost = 10;
const shown = ({ schema, name }: Pick<Relation, "schema" | "name">) => `${schema}.${name}`;

function namesOf(relations: readonly Relation[]): string {
  const more = relations.length > namedAtMost ? ` and ${relations.length - namedAtMost} more` : "";
  return quoteNames(relations.slice(0, namedAtMost).map(shown)) + more;
}

/** Why nobody gets a relation that was named, or nothing of what it holds; undefined where it is dumped. */
export function findLack(
  { isUnlogged, extension, isConfiguration }: Relation,
  { selection: { contents }, isForPeople }: Dumping,
): Lack | undefined {
  const hasRows = contents !== DumpContents.SCHEMA_ONLY;
  if (extension !== null && !(isConfiguration && isForPeople && hasRows))
    return {
      is: `belongs to the extension ${JSON.stringify(extension)}, and pg_dump leaves it to that`,
      hint: "restore the whole cluster into an empty directory, with --to HOST:/DIRECTORY, and copy from there",
    };
  if (!isUnlogged || !hasRows) return undefined;
  return {
    is: "is unlogged: what it holds is in no WAL and in no physical backup",
    hint: "restore it from a dump of the primary, or bring its definition alone back, with --schema-only",
  };
}

/** Fails with SELECTION_REFUSED for a relation that was named and that the dump would lack, or have empty. */
export function refuseLacking(chosen: readonly Relation[], dumping: Dumping): void {
  const { tables } = dumping.selection;
  for (const relation of chosen.filter((each) => tables.some((table) => isNamed(each, table)))) {
    const lack = findLack(relation, dumping);
    if (lack) fail("SELECTION_REFUSED", `${JSON.stringify(shown(relation))} ${lack.is}`, { hint: lack.hint });
  }
}

/** Tables whose rows pg_dump leaves out, where there may be some. */
async function findLeftOut(connection: PostgresConnection, relations: readonly Relation[]): Promise<Relation[]> {
  const members = relations.filter(
    ({ kind, extension, isConfiguration }) => kind === "r" && extension !== null && !isConfiguration,
  );
  const filled = await connection.query<{ oid: string }>(
    "select t.oid::text as oid from unnest($1::oid[]) as t(oid) where pg_relation_size(t.oid) > 0",
    [members.map(({ oid }) => oid)],
  );
  return members.filter(({ oid }) => filled.some((each) => each.oid === oid));
}

/** What of a scratch server's database comes back otherwise than it was, a line each. */
export async function describeLacking(
  connection: PostgresConnection,
  relations: readonly Relation[],
  contents: DumpContents,
): Promise<string[]> {
  if (contents === DumpContents.SCHEMA_ONLY) return [];
  const empty = relations.filter(
    ({ isUnlogged, extension, isConfiguration }) => isUnlogged && (extension === null || isConfiguration),
  );
  const left = await findLeftOut(connection, relations);
  const lines = [
    [empty, "empty, because they are unlogged, and what they hold is in no WAL and in no physical backup"],
    [left, "without their rows, because they belong to extensions, and pg_dump leaves them to those"],
  ] as const;
  return lines.flatMap(([some, how]) => (some.length === 0 ? [] : [`${namesOf(some)}: ${how}`]));
}

/**
 * That a part has none of the large objects of a scratch server's database, where there are some. Which of them it refers
 * to nothing tells: their oids may be in columns of any type.
 */
export async function describeLargeObjects(connection: PostgresConnection, contents: DumpContents): Promise<string[]> {
  if (contents === DumpContents.SCHEMA_ONLY) return [];
  const { count } = await connection.queryOne<{ count: string }>(
    "select count(*)::text as count from pg_largeobject_metadata",
  );
  if (count === "0") return [];
  return [
    `none of the large objects of the database, ${count} in all, is there, because pg_dump takes them with a whole database alone: rows that refer to them have their oids and no more; restore the whole database to get them, without --table and --schema`,
  ];
}

/** What no text was in its encoding cannot be looked for by its name. */
const isText = ({ schema, name }: Relation) => !`${schema}${name}`.includes("\uFFFD");

/** Fails with ARCHIVE_DIFFERS where a dump has not the rows, or the definition, of a table that was chosen. */
export function requireDumped(chosen: readonly Relation[], contents: DumpContents, archive: ArchiveContents): void {
  const wanted = contents === DumpContents.SCHEMA_ONLY ? "TABLE" : "TABLE DATA";
  const place = (schema: string, name: string) => JSON.stringify([schema, name]);
  const there = new Set(
    archive.entries.filter(({ kind }) => kind === wanted).map(({ schema, name }) => place(schema, name)),
  );
  const missing = chosen.filter(
    (each) => each.kind === "r" && each.extension === null && isText(each) && !there.has(place(each.schema, each.name)),
  );
  if (missing.length > 0)
    fail("ARCHIVE_DIFFERS", `pg_dump has left out what was chosen: ${namesOf(missing)}`, {
      hint: "restore the whole database instead, or the cluster into an empty directory",
    });
}
