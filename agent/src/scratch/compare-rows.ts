import { create } from "@bufbuild/protobuf";
import { type TableDifference, TableDifferenceSchema } from "@coppice/proto/gen/coppice/common/v1/table_difference";
import { isFailure } from "@coppice/proto/kit/failure";
import { formatSize } from "@coppice/proto/kit/size";
import { openConnection, type PostgresConnection } from "../postgres/connect.ts";
import type { ResolvedEndpoint } from "../postgres/endpoint.ts";
import { quoteIdentifier } from "../postgres/quote.ts";

/** A database that is compared. */
export interface Side {
  readonly endpoint: ResolvedEndpoint;
  readonly database: string;
}

/** A table by its name. */
export interface NamedTable {
  readonly schema: string;
  readonly name: string;
}

/** Bounds of the work, which the live server has to bear. */
export interface CompareLimits {
  /** Tables at most. */
  readonly tables: number;
  /** Bytes of a table on either side. */
  readonly bytes: bigint;
  /** How long a table may take, and all of them. */
  readonly tableMs: number;
  readonly allMs: number;
}

const usual: CompareLimits = { tables: 100, bytes: 4n << 30n, tableMs: 60_000, allMs: 600_000 };

interface Shape {
  readonly bytes: string;
  /** As the planner estimates; -1 where it knows nothing. */
  readonly rows: number;
  readonly columns: readonly string[];
  readonly key: readonly string[] | null;
}

/** What a row is told by, and all of it, as digests. */
interface Row {
  readonly k: string;
  readonly h: string;
}

const rowsAtOnce = 5000;

/** So that values are written alike by both servers. */
const settings = `set datestyle = 'ISO, MDY'; set intervalstyle = 'postgres'; set timezone = 'UTC';
  set extra_float_digits = 1; set bytea_output = 'hex'; set xmlbinary = 'base64'; set quote_all_identifiers = off;
  set lc_monetary = 'C'; set row_security = off`;

async function findShape(connection: PostgresConnection, { schema, name }: NamedTable): Promise<Shape | undefined> {
  const [found] = await connection.query<Shape>(
    `select pg_table_size(c.oid)::text as bytes, c.reltuples as rows,
       (select coalesce(json_agg(a.attname order by a.attnum), '[]') from pg_attribute a
         where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped) as columns,
       (select json_agg(a.attname order by k.place) from pg_index i
         cross join lateral unnest(i.indkey::int2[]) with ordinality as k(number, place)
         join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.number
         where i.indrelid = c.oid and i.indisprimary and k.place <= i.indnkeyatts) as key
     from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where n.nspname = $1 and c.relname = $2 and c.relkind in ('r', 'f', 'm')`,
    [schema, name],
  );
  return found;
}

const rowOf = (columns: readonly string[]) =>
  `pg_catalog.md5(row(${columns.map((column) => `t.${quoteIdentifier(column)}`).join(", ")})::text)`;
const tableOf = ({ schema, name }: NamedTable) => `only ${quoteIdentifier(schema)}.${quoteIdentifier(name)}`;

/** The rows of a table in the order of their digests, some at a time: none of them is ever held here as it is. */
async function* readRows(
  connection: PostgresConnection,
  table: NamedTable,
  { key, columns }: { readonly key: readonly string[]; readonly columns: readonly string[] },
): AsyncGenerator<Row, void> {
  await connection.query(
    `declare coppice_rows no scroll cursor for select k, h from
       (select ${rowOf(key)} collate "C" as k, ${rowOf(columns)} collate "C" as h from ${tableOf(table)} t) x order by k, h`,
  );
  for (;;) {
    const rows = await connection.query<Row>(`fetch ${rowsAtOnce} from coppice_rows`);
    yield* rows;
    if (rows.length < rowsAtOnce) return;
  }
}

/** Counts what two ordered lists of rows have alone and in common. */
export async function countDifferences(
  live: AsyncIterator<Row, void>,
  recovered: AsyncIterator<Row, void>,
): Promise<{ onlyLive: bigint; onlyRecovered: bigint; same: bigint; changed: bigint }> {
  const count = { onlyLive: 0n, onlyRecovered: 0n, same: 0n, changed: 0n };
  const next = async (rows: AsyncIterator<Row, void>): Promise<Row | undefined> =>
    (await rows.next()).value ?? undefined;
  let [a, b] = [await next(live), await next(recovered)];
  while (a || b) {
    if (a && b && a.k === b.k) {
      if (a.h === b.h) count.same++;
      else count.changed++;
      [a, b] = [await next(live), await next(recovered)];
    } else if (a && (!b || a.k < b.k)) {
      count.onlyLive++;
      a = await next(live);
    } else {
      count.onlyRecovered++;
      b = await next(recovered);
    }
  }
  return count;
}

/** Of temporary files on either server, where the role may set it. */
const mostSorted = "4GB";
/** About what a row takes in one, and what they may take together where the role may set no limit. */
const [sortedRowBytes, mostSortedBytes] = [110, 1 << 30];

/** The live server has others to serve: one process sorts, and does not fill the disk. Says whether there is a limit. */
async function limitWork(connection: PostgresConnection): Promise<boolean> {
  await connection.query("set max_parallel_workers_per_gather = 0");
  const { allowed } = await connection.queryOne<{ allowed: boolean }>(
    "select has_parameter_privilege('temp_file_limit', 'SET') as allowed",
  );
  if (allowed) await connection.query(`set temp_file_limit = '${mostSorted}'`);
  return allowed;
}

async function begin(connection: PostgresConnection, tableMs: number): Promise<void> {
  await connection.query(settings);
  await connection.query("begin isolation level repeatable read read only");
  await connection.query(`set local statement_timeout = ${tableMs}`);
}

async function compareTable(
  sides: { readonly live: Side; readonly recovered: Side },
  table: NamedTable,
  { limits: { bytes, tableMs }, signal }: { readonly limits: CompareLimits; readonly signal: AbortSignal },
): Promise<Omit<TableDifference, "$typeName" | "$unknown" | "schema" | "table">> {
  const none = { byKey: false, onlyLive: 0n, onlyRecovered: 0n, same: 0n, changed: 0n, counted: false };
  await using live = await openConnection(sides.live.endpoint, { database: sides.live.database, signal });
  await using recovered = await openConnection(sides.recovered.endpoint, {
    database: sides.recovered.database,
    signal,
  });
  const isLimited = await limitWork(live);
  for (const connection of [live, recovered]) await begin(connection, tableMs);
  const own = await findShape(recovered, table);
  if (!own) return { ...none, note: "it is no table of its own" };
  const now = await findShape(live, table);
  if (!now) {
    const { n } = await recovered.queryOne<{ n: string }>(`select count(*)::text as n from ${tableOf(table)} t`);
    return { ...none, onlyRecovered: BigInt(n), counted: true, note: "the live database has no such table" };
  }
  const larger = BigInt(own.bytes) > BigInt(now.bytes) ? BigInt(own.bytes) : BigInt(now.bytes);
  if (larger > bytes)
    return { ...none, note: `it has ${formatSize(larger)}, and up to ${formatSize(bytes)} are compared` };
  if (!isLimited && now.rows * sortedRowBytes > mostSortedBytes)
    return {
      ...none,
      note: `it has about ${now.rows} rows, and the role may not limit the disk that sorting them takes`,
    };
  const columns = own.columns.filter((column) => now.columns.includes(column));
  const left = [...own.columns, ...now.columns].filter((column) => !columns.includes(column));
  const note = left.length === 0 ? "" : `without the columns that only one of them has: ${left.join(", ")}`;
  if (columns.length === 0) return { ...none, note: "they have no column in common" };
  const byKey = own.key !== null && JSON.stringify(own.key) === JSON.stringify(now.key);
  const what = { columns, key: byKey && own.key ? own.key : columns };
  const count = await countDifferences(readRows(live, table, what), readRows(recovered, table, what));
  return { byKey, ...count, counted: true, note };
}

/**
 * Compares rows of recovered tables with those of the live ones of the same names, which are only read, each table in a
 * snapshot of its own. A table that is too large, takes too long or cannot be read is told as not counted, with the
 * reason. `onTable` gets the number of those that are done.
 */
export async function compareTables(
  sides: { readonly live: Side; readonly recovered: Side },
  tables: readonly NamedTable[],
  {
    signal,
    onTable,
    limits = usual,
  }: {
    readonly signal: AbortSignal;
    readonly onTable: (done: number, table: NamedTable) => void;
    readonly limits?: CompareLimits;
  },
): Promise<TableDifference[]> {
  const found: TableDifference[] = [];
  const start = performance.now();
  for (const [index, table] of tables.slice(0, limits.tables).entries()) {
    onTable(index, table);
    const names = { schema: table.schema, table: table.name };
    if (performance.now() - start > limits.allMs) {
      found.push(create(TableDifferenceSchema, { ...names, note: "comparing the tables before it took too long" }));
      continue;
    }
    try {
      found.push(
        create(TableDifferenceSchema, { ...names, ...(await compareTable(sides, table, { limits, signal })) }),
      );
    } catch (error) {
      signal.throwIfAborted();
      if (!isFailure(error)) throw error;
      const isSlow = error.metadata.sqlstate === "57014";
      const note = isSlow ? `it takes longer than ${limits.tableMs / 1000} s` : error.message;
      found.push(create(TableDifferenceSchema, { ...names, note }));
    }
  }
  return found;
}
