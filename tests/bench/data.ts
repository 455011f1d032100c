import type { PostgresServer } from "../support/postgres-servers.ts";
import { runChecked } from "./run-checked.ts";

// Rows as applications have them: keys, times, amounts, words, JSON, some bytes that do not compress. All of it follows
// from the row's number, so that two runs measure the same data.
const words = "array['oak','ash','elm','beech','birch','alder','hazel','rowan','maple','willow','poplar','lime']";
const word = (seed: number) => `(${words})[1 + abs(hashint8extended(i, ${seed}) % 12)]`;
const upTo = (limit: number | string, seed: number) => `abs(hashint8extended(i, ${seed}) % ${limit})`;

/** A kind of data, made by scripts that run side by side, then one that ends it. */
interface Kind {
  /** Of one unit, as pg_database_size counts: seen with 18, indexes included. */
  readonly bytesPerUnit: number;
  readonly schema: string;
  fill(units: number): readonly string[];
  readonly finish: string;
  readonly tables: readonly string[];
}

const shop: Kind = {
  bytesPerUnit: 935,
  schema: `
create table account (id bigint primary key, name text not null, mail text not null, made timestamptz not null);
create table purchase (id bigint primary key, account bigint not null, state text not null, total numeric(12,2) not null,
  made timestamptz not null, note text);
create table event (id bigint primary key, purchase bigint not null, at timestamptz not null, body jsonb not null, mark bytea not null);
`,
  fill: (units) => [
    `insert into account select i, ${word(1)} || ' ' || ${word(2)}, md5(i::text) || '@example.org',
     '2020-01-01'::timestamptz + i * interval '61 seconds' from generate_series(1, ${units}) i;
   insert into purchase select i, 1 + ${upTo(units, 3)}, ${word(4)}, ${upTo(1_000_000, 5)} / 100.0,
     '2021-01-01'::timestamptz + i * interval '37 seconds',
     concat_ws(' ', ${word(6)}, ${word(7)}, ${word(8)}, ${word(9)}, ${word(10)}, ${upTo(10_000, 11)})
     from generate_series(1, ${2 * units}) i;`,
    `insert into event select i, 1 + ${upTo(2 * units, 12)}, '2022-01-01'::timestamptz + i * interval '11 seconds',
     jsonb_build_object('kind', ${word(13)}, 'amount', ${upTo(100_000, 14)}, 'from', ${word(15)}, 'to', ${word(16)}, 'trace', md5(i::text)),
     decode(md5(i::text || 'm'), 'hex') from generate_series(1, ${2 * units}) i;`,
  ],
  finish: `
alter table purchase add foreign key (account) references account;
create index on purchase (account);
create index on event (at);
`,
  tables: ["account", "purchase", "event"],
};

const wideTypes: readonly (readonly [type: string, value: (seed: number) => string])[] = [
  ["bigint", (seed) => upTo("(1::bigint << 40)", seed)],
  ["integer", (seed) => upTo(100_000, seed)],
  ["numeric(14,4)", (seed) => `${upTo("10000000000", seed)} / 10000.0`],
  ["double precision", (seed) => `${upTo(1_000_000_007, seed)} / 977.0`],
  ["text", (seed) => `${word(seed)} || ' ' || ${upTo(1000, seed + 1)}`],
  ["boolean", (seed) => `${upTo(3, seed)} = 0`],
  ["timestamptz", (seed) => `'2023-01-01'::timestamptz + ${upTo(100_000_000, seed)} * interval '1 second'`],
  ["date", (seed) => `'2019-01-01'::date + ${upTo(3000, seed)}::integer`],
  ["uuid", (seed) => `md5(i::text || '${seed}')::uuid`],
  // As most columns of such tables: mostly empty.
  ["integer", (seed) => `nullif(${upTo(20, seed)}, 0) % 2`],
];

const wideColumns = Array.from({ length: 60 }, (_, index) => {
  const [type, value] = wideTypes[index % wideTypes.length] ?? ["boolean", () => "true"];
  return { name: `c${String(index).padStart(2, "0")}`, type, value: value(100 + 2 * index) };
});

const wide: Kind = {
  bytesPerUnit: 611,
  schema: `create table wide (id bigint primary key, ${wideColumns.map(({ name, type }) => `${name} ${type}`).join(", ")});`,
  fill: (units) => [
    `insert into wide select i, ${wideColumns.map(({ value }) => value).join(", ")} from generate_series(1, ${units}) i;`,
  ],
  finish: "create index on wide (c00); create index on wide (c06);",
  tables: ["wide"],
};

/** As pgbench makes it: a hundred thousand accounts a unit, foreign keys and all. */
const pgbench = { bytesPerUnit: 15_700_000, tables: ["pgbench_accounts", "pgbench_branches", "pgbench_tellers"] };

const unitsOf = ({ bytesPerUnit }: { bytesPerUnit: number }, bytes: number) =>
  Math.max(1, Math.round(bytes / bytesPerUnit));

/**
 * Makes a database of about that size in bytes, a third each of pgbench's tables, of a shop with text and jsonb, and of
 * one wide table; gives its real size.
 */
export async function loadData(
  server: PostgresServer,
  database: string,
  { sizeBytes, signal }: { readonly sizeBytes: number; readonly signal: AbortSignal },
): Promise<number> {
  await server.sql("postgres", `create database ${database}`);
  const third = sizeBytes / 3;
  const env = {
    PGHOST: "127.0.0.1",
    PGPORT: String(server.port),
    PGUSER: server.superuser,
    PGPASSWORD: server.password,
  };
  const args = ["--initialize", "--init-steps=dtGvpf", `--scale=${unitsOf(pgbench, third)}`, "--quiet", database];
  await runChecked(`${server.binDir}/pgbench`, args, { env, signal });
  for (const kind of [shop, wide]) {
    signal.throwIfAborted();
    await server.sql(database, kind.schema);
    await Promise.all(kind.fill(unitsOf(kind, third)).map((script) => server.sql(database, script)));
    await server.sql(database, kind.finish);
  }
  await server.sql(database, "vacuum analyze");
  return Number(await server.sql(database, `select pg_database_size('${database}')`));
}

/** Rows and a sum over all of them, a line for each table: equal for databases with equal contents. */
export function digestData(server: Pick<PostgresServer, "sql">, database: string): Promise<string> {
  const tables = [...pgbench.tables, ...shop.tables, ...wide.tables];
  return server.sql(
    database,
    tables.map((table) => `select '${table}', count(*), sum(hashtextextended(t::text, 0)) from ${table} t;`).join("\n"),
  );
}
