import type { PostgresServer } from "../support/postgres-servers.ts";

/** Of one unit of data, as pg_database_size counts: seen with 18, indexes included. */
const bytesPerUnit = 935;

// Rows as applications have them: keys, times, amounts, words, JSON, some bytes that do not compress. All of it follows
// from the row's number, so that two runs measure the same data.
const words = "array['oak','ash','elm','beech','birch','alder','hazel','rowan','maple','willow','poplar','lime']";
const word = (seed: number) => `(${words})[1 + abs(hashint8extended(i, ${seed}) % 12)]`;
const upTo = (limit: number | string, seed: number) => `abs(hashint8extended(i, ${seed}) % ${limit})`;

const schema = `
create table account (id bigint primary key, name text not null, mail text not null, made timestamptz not null);
create table purchase (id bigint primary key, account bigint not null, state text not null, total numeric(12,2) not null,
  made timestamptz not null, note text);
create table event (id bigint primary key, purchase bigint not null, at timestamptz not null, body jsonb not null, mark bytea not null);
`;

const fill = (units: number) => [
  `insert into account select i, ${word(1)} || ' ' || ${word(2)}, md5(i::text) || '@example.org',
     '2020-01-01'::timestamptz + i * interval '61 seconds' from generate_series(1, ${units}) i;
   insert into purchase select i, 1 + ${upTo(units, 3)}, ${word(4)}, ${upTo(1_000_000, 5)} / 100.0,
     '2021-01-01'::timestamptz + i * interval '37 seconds',
     concat_ws(' ', ${word(6)}, ${word(7)}, ${word(8)}, ${word(9)}, ${word(10)}, ${upTo(10_000, 11)})
     from generate_series(1, ${2 * units}) i;`,
  `insert into event select i, 1 + ${upTo(2 * units, 12)}, '2022-01-01'::timestamptz + i * interval '11 seconds',
     jsonb_build_object('kind', ${word(13)}, 'amount', ${upTo(100_000, 14)}, 'from', ${word(15)}, 'to', ${word(16)}, 'trace', md5(i::text)),
     decode(md5(i::text || 'm'), 'hex') from generate_series(1, ${2 * units}) i;`,
];

const finish = `
alter table purchase add foreign key (account) references account;
create index on purchase (account);
create index on event (at);
vacuum analyze;
`;

/** Makes a database of about that size in bytes; gives its real size. */
export async function loadData(server: PostgresServer, database: string, sizeBytes: number): Promise<number> {
  const units = Math.max(1, Math.round(sizeBytes / bytesPerUnit));
  await server.sql("postgres", `create database ${database}`);
  await server.sql(database, schema);
  await Promise.all(fill(units).map((script) => server.sql(database, script)));
  await server.sql(database, finish);
  return Number(await server.sql(database, `select pg_database_size('${database}')`));
}

/** Rows and a sum over all of them, a line for each table: equal for databases with equal contents. */
export function digestData(server: PostgresServer, database: string): Promise<string> {
  const tables = ["account", "purchase", "event"];
  return server.sql(
    database,
    tables.map((table) => `select '${table}', count(*), sum(hashtextextended(t::text, 0)) from ${table} t;`).join("\n"),
  );
}
