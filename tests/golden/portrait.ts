import type { PostgresServer } from "../support/postgres-servers.ts";

/** Of objects, what the server itself says of each: it stays the same from minor to minor, unlike pg_dump's text. */
const objects = `
select format('relation %s %s owner %s acl %s comment %s rls %s', c.relkind, c.oid::regclass, c.relowner::regrole,
  (select array_agg(a::text order by a::text) from unnest(c.relacl) a), obj_description(c.oid, 'pg_class'), c.relrowsecurity)
from pg_class c where c.relnamespace in (select oid from own) and c.relkind in ('r', 'p', 'v', 'm', 'S')
union all
select format('column %s.%s %s %s default %s %s%s acl %s', a.attrelid::regclass, a.attname,
  format_type(a.atttypid, a.atttypmod), case when a.attnotnull then 'not null' end,
  pg_get_expr(d.adbin, d.adrelid), a.attidentity, a.attgenerated, a.attacl)
from pg_attribute a join pg_class c on c.oid = a.attrelid left join pg_attrdef d on (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
where c.relnamespace in (select oid from own) and c.relkind in ('r', 'p') and a.attnum > 0
union all
select format('constraint %s on %s: %s', conname, conrelid::regclass, pg_get_constraintdef(oid)) from pg_constraint
where connamespace in (select oid from own) and contype <> 'n'
union all
select pg_get_indexdef(indexrelid) from pg_index join pg_class c on c.oid = indexrelid where c.relnamespace in (select oid from own)
union all
select format('%s is %s', c.oid::regclass, pg_get_viewdef(c.oid)) from pg_class c
where c.relnamespace in (select oid from own) and c.relkind in ('v', 'm')
union all
select pg_get_functiondef(p.oid) from pg_proc p where p.pronamespace in (select oid from own)
union all
select pg_get_triggerdef(t.oid) from pg_trigger t where not tgisinternal
union all
select format('policy %s on %s: %s', polname, polrelid::regclass, pg_get_expr(polqual, polrelid)) from pg_policy
union all
select format('enum %s %s %s', enumtypid::regtype, enumsortorder, enumlabel) from pg_enum
union all
select format('sequence %I.%I at %s by %s', schemaname, sequencename, last_value, increment_by) from pg_sequences
union all
select format('large object %s %s', loid, md5(string_agg(data, '' order by pageno))) from pg_largeobject group by loid`;

/** A line for each table's rows; run by psql, which executes what it makes. */
const rows = `
select format('select %L, count(*), md5(string_agg(t::text, E''\\n'' order by t::text collate "C")) from only %s t',
  c.oid::regclass, c.oid::regclass)
from pg_class c where c.relkind in ('r', 'm') and c.relnamespace in (
  select oid from pg_namespace where nspname !~ '^pg_' and nspname <> 'information_schema')
order by c.oid::regclass::text collate "C"
\\gexec`;

/** What is in a database, a line for each thing: the same for two databases that are equal, whatever their names. */
export async function portrayGolden(server: PostgresServer, database: string): Promise<string[]> {
  const text = `set timezone = 'UTC'; set search_path = '';
with own as (select oid from pg_namespace where nspname !~ '^pg_' and nspname <> 'information_schema')
select replace(line, E'\\n', ' ⏎ ') from (${objects}) as all_of_it (line) order by line collate "C";
${rows}`;
  return (await server.sql(database, text)).split("\n");
}
