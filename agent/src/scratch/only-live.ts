import { create } from "@bufbuild/protobuf";
import {
  type OnlyLive,
  type OnlyLiveObject,
  OnlyLiveObjectSchema,
  OnlyLiveSchema,
} from "@coppice/proto/gen/coppice/common/v1/table_difference";
import { isFailure } from "@coppice/proto/kit/failure";
import { openConnection, type PostgresConnection } from "../postgres/connect.ts";
import type { Side } from "./compare-rows.ts";

/** An object that somebody has made in a database. */
interface Made {
  readonly kind: string;
  /** As SQL writes it: with its schema, and quoted where that is needed. */
  readonly name: string;
  /** The table that it is a partition of. */
  readonly parent: string | null;
}

const mostNamed = 50;
/** The live server has others to serve: of a table, and of all of them together. */
const [countMs, allCountsMs] = [10_000, 60_000];
const counted = ["table", "materialized view"];

/** What belongs to another object, to an extension or to a column for one, comes and goes with it. */
async function listMade(connection: PostgresConnection): Promise<Made[]> {
  return await connection.query<Made>(
    `with o(class, oid, parent) as (
       select 'pg_class'::regclass, c.oid,
           case when c.relispartition then (select i.inhparent from pg_inherits i where i.inhrelid = c.oid limit 1) end
         from pg_class c where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S') and c.relpersistence <> 't'
       union all select 'pg_type'::regclass, t.oid, null from pg_type t
         where t.typtype in ('d', 'e', 'r') or exists (select from pg_class c where c.oid = t.typrelid and c.relkind = 'c')
       union all select 'pg_proc'::regclass, oid, null from pg_proc
       union all select 'pg_extension'::regclass, oid, null from pg_extension
       union all select 'pg_namespace'::regclass, oid, null from pg_namespace)
     select i.type as kind, i.identity as name, p.identity as parent
     from o cross join lateral pg_identify_object(o.class, o.oid, 0) i
       left join lateral pg_identify_object(o.class, o.parent, 0) p on o.parent is not null
     where (o.oid >= 16384 or o.class = 'pg_namespace'::regclass) and coalesce(i.schema, i.name) !~ '^pg_'
       and not exists (select from pg_depend d where d.classid = o.class and d.objid = o.oid and d.objsubid = 0
         and (d.deptype in ('e', 'i') or d.deptype = 'a' and i.type = 'sequence'))
     order by array_position('{table,materialized view}', i.type), i.type, i.identity`,
  );
}

async function countRows(connection: PostgresConnection, name: string): Promise<bigint | undefined> {
  try {
    const { n } = await connection.queryOne<{ n: string }>(`select count(*)::text as n from ${name}`);
    return BigInt(n);
  } catch (error) {
    if (isFailure(error)) return undefined;
    throw error;
  }
}

/**
 * Finds what only the live database has, which a swap would put aside with it: tables, views, sequences, functions, types,
 * schemas and extensions, by their names. Rows are counted while that is quick.
 */
export async function findOnlyLive(
  sides: { readonly live: Side; readonly recovered: Side },
  signal: AbortSignal,
): Promise<OnlyLive> {
  await using live = await openConnection(sides.live.endpoint, { database: sides.live.database, signal });
  await using recovered = await openConnection(sides.recovered.endpoint, {
    database: sides.recovered.database,
    signal,
  });
  const nameOf = ({ kind, name }: Made) => `${kind} ${name}`;
  const there = new Set((await listMade(recovered)).map(nameOf));
  const alone = (await listMade(live)).filter((made) => !there.has(nameOf(made)));
  const names = new Set(alone.map(({ name }) => name));
  const whole = alone.filter(({ parent }) => parent === null || !names.has(parent));
  await live.query(
    `set statement_timeout = ${countMs}; set row_security = off; set max_parallel_workers_per_gather = 0`,
  );
  const start = performance.now();
  const objects: OnlyLiveObject[] = [];
  for (const { kind, name } of whole.slice(0, mostNamed)) {
    const isCounted = counted.includes(kind) && performance.now() - start < allCountsMs;
    const rows = isCounted ? await countRows(live, name) : undefined;
    signal.throwIfAborted();
    objects.push(create(OnlyLiveObjectSchema, { kind, name, ...(rows === undefined ? {} : { rows }) }));
  }
  return create(OnlyLiveSchema, { objects, more: whole.length - objects.length });
}
