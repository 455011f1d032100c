import { randomBytes } from "node:crypto";
import { rm, writeFile, chown } from "node:fs/promises";
import { Readable } from "node:stream";
import { fail } from "@coppice/proto/kit/failure";
import { openChain } from "../host/chain.ts";
import type { ToolAccess } from "../postgres/tool-access.ts";
import { openSource, type RestoreSource } from "./source/source.ts";
import { scanScript } from "./sql/scan.ts";
import { makeNameDecoder } from "./sql/text-decoder.ts";

/** A restored database whose rows are held against the archive's. */
export interface RowsToCheck {
  readonly source: RestoreSource;
  readonly access: ToolAccess;
  readonly database: string;
  /** What was restored, as pg_restore --use-list reads it; undefined is all. */
  readonly useList: string | undefined;
  /** Where the list lies while it is read. */
  readonly listFile: string;
  readonly signal: AbortSignal;
}

const copyStatement = /^COPY ((?:"(?:[^"]|"")*"|[\w$]+)\.(?:"(?:[^"]|"")*"|[\w$]+)) (?:\(([^]+)\))? ?FROM stdin;$/i;

/** Columns in the order of their names: the partitions of a table may have theirs in other orders. */
function splitColumns(list: string): string {
  return (list.match(/"(?:[^"]|"")*"|[^\s,]+/g) ?? []).toSorted().join(", ");
}

/** Number and sum of rows, in whatever order they lie; a table may have no columns, and rows all the same. */
const sumOf = (columns: string, from: string) =>
  `(SELECT pg_catalog.count(*) AS n, COALESCE(pg_catalog.sum(pg_catalog.hashtextextended(ROW(${columns})::pg_catalog.text, 0)), 0) AS s FROM ${from})`;

/** The statements of a comparison; names in them are characters that are bytes of the archive's encoding. */
interface Comparing {
  /** The tables that rows are loaded into, by name, with their columns. */
  readonly tables: ReadonlyMap<string, string>;
  /**
   * Statements around the rows of one COPY, which then go into a temporary table and are summed up under the table's name:
   * the rows of several partitions may be loaded by the name of the one table that they are partitions of.
   */
  around(table: string, columns: string): { before: string; after: string };
  /** Statements that compare the sums with what is in the tables, and answer with the table's number. */
  end(): string[];
}

function startComparing(): Comparing {
  const tables = new Map<string, string>();
  const tag = `$c${randomBytes(12).toString("hex")}$`;
  const oidOf = (table: string) => `${tag}${table}${tag}::pg_catalog.regclass`;
  return {
    tables,
    around(table, list) {
      const isFirst = tables.size === 0;
      const columns = splitColumns(list);
      if (!tables.has(table)) tables.set(table, columns);
      const sums = "CREATE TEMPORARY TABLE coppice_sums (place pg_catalog.regclass, n bigint, s numeric);\n";
      return {
        before: `${isFirst ? sums : ""}CREATE TEMPORARY TABLE coppice_rows AS SELECT ${list} FROM ONLY ${table} WITH NO DATA;
COPY pg_temp.coppice_rows${list === "" ? "" : ` (${list})`} FROM stdin;
`,
        after: `INSERT INTO pg_temp.coppice_sums SELECT ${oidOf(table)}, n, s FROM ${sumOf(columns, "pg_temp.coppice_rows")} r;
DROP TABLE pg_temp.coppice_rows;
`,
      };
    },
    // A partitioned table has its rows in its partitions, some of which may have been loaded by their own names.
    end: () =>
      [...tables].map(([table, columns], index) => {
        const oid = oidOf(table);
        const isPartitioned = `(SELECT c.relkind = 'p' FROM pg_catalog.pg_class c WHERE c.oid = ${oid})`;
        const rows = `(SELECT ${columns} FROM ONLY ${table} UNION ALL SELECT ${columns} FROM ${table} WHERE ${isPartitioned}) r`;
        return `SELECT 'coppice ${index} ' || (a.n = b.n AND a.s = b.s)
FROM (SELECT pg_catalog.sum(n) AS n, pg_catalog.sum(s) AS s FROM pg_temp.coppice_sums
  WHERE place = ${oid} OR place IN (SELECT p.relid FROM pg_catalog.pg_partition_tree(${oid}) p)) a, ${sumOf(columns, rows)} b;
`;
      }),
  };
}

/** The rows of an archive as a script that compares each table; what else is in it is left out. */
async function* compareScript(script: AsyncIterable<Uint8Array>, comparing: Comparing): AsyncGenerator<Buffer, void> {
  const bytes = (text: string) => Buffer.from(text, "latin1");
  let after = "";
  yield bytes(`\\restrict ${randomBytes(24).toString("hex")}\n`);
  for await (const piece of scanScript(script)) {
    if (piece.kind === "rows") {
      yield piece.bytes;
      if (piece.isEnd) yield bytes(after);
    }
    if (piece.kind !== "statement" || !piece.isStart) continue;
    const text = piece.bytes.toString("latin1");
    const [, table, columns = ""] = copyStatement.exec(text) ?? [];
    if (table !== undefined) {
      const statements = comparing.around(table, columns);
      after = statements.after;
      yield bytes(statements.before);
    } else if (/^COPY\s/i.test(text)) fail("SCRIPT_UNREADABLE", "pg_restore wrote a COPY that is not known");
    // Nothing else may change what was restored: sequences, large objects.
    else if (/^SET [a-z_]+ = /.test(text) || text.startsWith("SELECT pg_catalog.set_config(")) yield bytes(`${text}\n`);
  }
  for (const statement of comparing.end()) yield bytes(statement);
}

/**
 * Holds the rows of every restored table against a second, independent decode of the archive: its rows are loaded into a
 * temporary table, and number and sum of the rows' hashes have to be the same, in whatever order they lie. It reads the
 * archive once more and takes about as long as loading it without indexes. Gives the number of tables that were compared;
 * rows that were dumped as INSERT are in none. A table that others are partitions of is compared as a whole where rows were
 * loaded by its name. Fails with ARCHIVE_DIFFERS naming the tables, PROGRAM_FAILED, or as the source does.
 */
export async function compareRows({
  source,
  access,
  database,
  useList,
  listFile,
  signal,
}: RowsToCheck): Promise<number> {
  const comparing = startComparing();
  try {
    const args = ["--data-only", "--file=-"];
    if (useList !== undefined) {
      await writeFile(listFile, useList, { mode: 0o600 });
      if (access.user) await chown(listFile, access.user.uid, access.user.gid);
      args.push(`--use-list=${listFile}`);
    }
    const isFolder = source.folder !== undefined;
    const encoded = isFolder ? undefined : openSource(source, { signal });
    const program = access.offline("pg_restore", isFolder ? [...args, source.folder ?? ""] : args);
    const restore = { ...program, readsOn: true };
    await using rows = await openChain([...(encoded?.programs ?? []), restore], {
      signal,
      ...(encoded ? { input: encoded.input } : {}),
    });
    const psql = access.connecting("psql", database, ["-X", "-q", "-A", "-t", "--set=ON_ERROR_STOP=1", "--file=-"]);
    const input = Readable.from(compareScript(rows.output, comparing), { objectMode: false });
    await using chain = await openChain([psql], { signal, input });
    const answers: Buffer[] = [];
    for await (const chunk of chain.output as AsyncIterable<Buffer>) answers.push(chunk);
    await chain.done;
    const said = new Set(Buffer.concat(answers).toString("utf8").split("\n"));
    const different = [...comparing.tables.keys()].filter((_, index) => !said.has(`coppice ${index} true`));
    if (different.length > 0) {
      const show = makeNameDecoder(source.contents?.encoding ?? "UTF8");
      const names = different.map((table) => show(Buffer.from(table, "latin1"))).join(", ");
      fail("ARCHIVE_DIFFERS", `the rows of ${names} are not the archive's in ${JSON.stringify(database)}`);
    }
    return comparing.tables.size;
  } finally {
    await rm(listFile, { force: true });
  }
}
