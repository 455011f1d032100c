import type { DumpOptions } from "@coppice/proto/gen/coppice/common/v1/dump_options";
import { type PostgresConnection, slowAnswer } from "../../postgres/connect.ts";
import { patternParts } from "./name-pattern.ts";

const matches = (list: string, name: string) =>
  `exists (select from jsonb_to_recordset($1::jsonb -> '${list}') as p(schema text, name text) where ${name})`;
// Of a pattern without a schema what the search path finds is meant.
const isTable =
  "c.relname ~ p.name and case when p.schema is null then c.oid::text = any($2) else n.nspname ~ p.schema end";
const isSchema = "n.nspname ~ p.name";

/**
 * What pg_dump leaves empty on a standby by itself, without a word. A sequence of such a table begins anew with it; one
 * of another table goes where that goes, so that patterns of tables do not leave it out. What an extension makes is
 * dumped where the extension asks for it.
 */
const question = `
  select format('%I.%I', n.nspname, c.relname) as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
    left join pg_depend d on c.relkind = 'S' and d.classid = 'pg_class'::regclass and d.objid = c.oid
      and d.refclassid = 'pg_class'::regclass and d.deptype in ('a', 'i')
    left join pg_class owner on owner.oid = d.refobjid
  where c.relpersistence = 'u' and c.relkind in ('r', 'S') and owner.relpersistence is distinct from 'u'
    and not exists (select from pg_depend m join pg_extension e on e.oid = m.refobjid
      where m.classid = 'pg_class'::regclass and m.objid = c.oid and m.deptype = 'e'
        and (e.extconfig is null or c.oid <> all (e.extconfig)))
    and case when jsonb_array_length($1::jsonb -> 'tables') > 0
      then owner.oid is not null or ${matches("tables", isTable)}
      else (jsonb_array_length($1::jsonb -> 'schemas') = 0 or ${matches("schemas", isSchema)})
        and not ${matches("excludeSchemas", isSchema)} end
    and (owner.oid is not null or not ${matches("excludeTables", isTable)})
    and not ${matches("excludeTableData", isTable)}
  order by 1`;

/** Every name qualified: what the search path of a database finds is its owner's affair. */
const visible = `
  select c.oid::pg_catalog.text as oid from pg_catalog.pg_class c
  where c.relpersistence operator(pg_catalog.=) 'u' and pg_catalog.pg_table_is_visible(c.oid)`;

const parse = (patterns: readonly string[]) =>
  patterns.map((pattern) => {
    const [name, schema] = patternParts(pattern).toReversed();
    return { schema, name };
  });

/** The unlogged tables and sequences of a database whose contents a dump with those options would take. */
export async function listUnlogged(connection: PostgresConnection, options: DumpOptions): Promise<string[]> {
  const { tables, schemas, excludeTables, excludeSchemas, excludeTableData } = options;
  await connection.query("reset search_path");
  const found = await connection.query<{ oid: string }>(visible, [], slowAnswer);
  await connection.query("set search_path = pg_catalog");
  const lists = Object.entries({ tables, schemas, excludeTables, excludeSchemas, excludeTableData });
  const patterns = Object.fromEntries(lists.map(([list, given]) => [list, parse(given)]));
  const asked = [JSON.stringify(patterns), found.map(({ oid }) => oid)];
  return (await connection.query<{ name: string }>(question, asked, slowAnswer)).map(({ name }) => name);
}
