import type { RestoreSelection } from "@coppice/proto/gen/coppice/common/v1/restore_selection";
import { fail } from "@coppice/proto/kit/failure";
import type { PostgresConnection } from "../postgres/connect.ts";
import { quoteIdentifier } from "../postgres/quote.ts";

/** A table, view, sequence or the like of a database. */
export interface Relation {
  readonly oid: string;
  readonly schema: string;
  readonly name: string;
  /** As pg_class.relkind. */
  readonly kind: string;
  /** Oid of the partitioned table that it is a partition of. */
  readonly parent: string | null;
  /** Whether it is empty behind a recovery, because nothing that it holds is in WAL. */
  readonly isUnlogged: boolean;
  /** Name of the extension that it belongs to: pg_dump leaves its definition to that. */
  readonly extension: string | null;
  /** Whether that extension has pg_dump take its rows all the same. */
  readonly isConfiguration: boolean;
}

/** What a selection comes to in the database that it is of. */
export interface ChosenRelations {
  /** The chosen tables and their partitions. */
  readonly chosen: readonly Relation[];
  /** What else there is, but sequences, which what is chosen may need. */
  readonly others: readonly Relation[];
  /** Schemas that were not chosen, and have some of what is: partitions lie anywhere. */
  readonly otherSchemas: readonly string[];
}

/** A sequence of such a table goes with it, and is not told of beside it. */
const unlogged = `c.relpersistence = 'u' and c.relkind in ('r', 'S') and not exists (
         select from pg_depend d join pg_class o on o.oid = d.refobjid and o.relpersistence = 'u'
         where c.relkind = 'S' and d.classid = 'pg_class'::regclass and d.objid = c.oid
           and d.refclassid = 'pg_class'::regclass and d.deptype in ('a', 'i'))`;

/** Every relation of the database that is not the system's. */
export async function listRelations(connection: PostgresConnection): Promise<Relation[]> {
  return await connection.query<Relation>(
    `select c.oid::text as oid, n.nspname::text as schema, c.relname::text as name, c.relkind::text as kind,
       case when c.relispartition then (select i.inhparent::text from pg_inherits i where i.inhrelid = c.oid limit 1) end as parent,
       ${unlogged} as "isUnlogged", e.extname::text as extension,
       coalesce(c.oid = any (e.extconfig), false) as "isConfiguration"
     from pg_class c join pg_namespace n on n.oid = c.relnamespace
       left join pg_depend m on m.classid = 'pg_class'::regclass and m.objid = c.oid and m.objsubid = 0
         and m.refclassid = 'pg_extension'::regclass and m.deptype = 'e'
       left join pg_extension e on e.oid = m.refobjid
     where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S') and c.relpersistence <> 't'
       and n.nspname not in ('pg_catalog', 'information_schema') and n.nspname !~ '^pg_(toast|temp)'
     order by c.oid`,
  );
}

type TableName = RestoreSelection["tables"][number];

/** Whether it is what is asked for; without a schema it may be in any. */
export function isNamed(relation: Relation, { schema, name }: Pick<TableName, "schema" | "name">): boolean {
  return relation.name === name && (schema === "" || relation.schema === schema);
}

function findRelation(relations: readonly Relation[], table: TableName, where: string): Relation {
  const { schema, name } = table;
  const found = relations.filter((each) => isNamed(each, table));
  const shown = JSON.stringify(schema === "" ? name : `${schema}.${name}`);
  const [first] = found;
  if (!first)
    return fail("SELECTION_REFUSED", `${where} has no table ${shown} at that point`, {
      hint: "see how it is spelled, with its schema, or choose a point when it was there; without --table the whole database comes",
    });
  if (found.length > 1)
    fail("SELECTION_REFUSED", `several schemas of ${where} have a table ${shown} at that point`, {
      hint: "name the schema too: --table schema.name",
    });
  return first;
}

/** What a selection chooses, partitions with what they belong to. Fails with SELECTION_REFUSED for what is not there. */
export function chooseRelations(
  relations: readonly Relation[],
  { schemas, tables }: Pick<RestoreSelection, "schemas" | "tables">,
  where: string,
): ChosenRelations {
  const missing = schemas.find((schema) => !relations.some((each) => each.schema === schema));
  if (missing !== undefined)
    fail("SELECTION_REFUSED", `${where} has no schema ${JSON.stringify(missing)} with anything in it at that point`);
  const oids = new Set(tables.map((table) => findRelation(relations, table, where).oid));
  for (const { oid, schema } of relations) if (schemas.includes(schema)) oids.add(oid);
  for (let size = -1; size !== oids.size;) {
    size = oids.size;
    for (const { oid, parent } of relations) if (parent !== null && oids.has(parent)) oids.add(oid);
  }
  const chosen = relations.filter(({ oid }) => oids.has(oid));
  return {
    chosen,
    others: relations.filter(({ oid, kind }) => !oids.has(oid) && kind !== "S"),
    otherSchemas: [...new Set(chosen.map(({ schema }) => schema))].filter((schema) => !schemas.includes(schema)),
  };
}

/** A relation as a pattern of pg_dump that fits it alone. */
export function patternOf({ schema, name }: Pick<Relation, "schema" | "name">): string {
  return `${quoteIdentifier(schema)}.${quoteIdentifier(name)}`;
}
