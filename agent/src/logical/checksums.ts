import { randomBytes } from "node:crypto";
import { rm, writeFile, chown } from "node:fs/promises";
import { Readable } from "node:stream";
import { fail } from "@coppice/proto/kit/failure";
import { openChain } from "../host/chain.ts";
import type { ToolAccess } from "../postgres/tool-access.ts";
import { openSource, type RestoreSource } from "./source/source.ts";
import { scanScript } from "./sql/scan.ts";

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

/**
 * Statements around the rows of one COPY, which then go into a temporary table that is compared with the real one. A
 * table may have no columns, and rows all the same.
 */
function around(index: number, table: string, columns: string): { before: string; after: string } {
  const sum = (from: string) =>
    `(SELECT pg_catalog.count(*) AS n, pg_catalog.sum(pg_catalog.hashtextextended(ROW(${columns})::pg_catalog.text, 0)) AS s FROM ${from})`;
  return {
    before: `CREATE TEMPORARY TABLE coppice_rows AS SELECT ${columns} FROM ONLY ${table} WITH NO DATA;
COPY pg_temp.coppice_rows${columns === "" ? "" : ` (${columns})`} FROM stdin;
`,
    after: `SELECT 'coppice ${index} ' || ((a.n, a.s) IS NOT DISTINCT FROM (b.n, b.s)) FROM ${sum("pg_temp.coppice_rows")} a, ${sum(`ONLY ${table}`)} b;
DROP TABLE pg_temp.coppice_rows;
`,
  };
}

/** The rows of an archive as a script that compares each table; `tables` gets their names, `other` counts what it skips. */
async function* compareScript(script: AsyncIterable<Uint8Array>, tables: string[]): AsyncGenerator<Buffer, void> {
  let after = "";
  yield Buffer.from(`\\restrict ${randomBytes(24).toString("hex")}\n`);
  for await (const piece of scanScript(script)) {
    if (piece.kind === "rows") {
      yield piece.bytes;
      if (piece.isEnd) yield Buffer.from(after);
    }
    if (piece.kind !== "statement" || !piece.isStart) continue;
    const text = piece.bytes.toString("utf8");
    const [, table, columns = ""] = copyStatement.exec(text) ?? [];
    if (table !== undefined) {
      const statements = around(tables.length, table, columns);
      tables.push(table);
      after = statements.after;
      yield Buffer.from(statements.before);
    } else if (/^COPY\s/i.test(text)) fail("SCRIPT_UNREADABLE", "pg_restore wrote a COPY that is not known");
    // Nothing else may change what was restored: sequences, large objects.
    else if (/^SET [a-z_]+ = /.test(text) || text.startsWith("SELECT pg_catalog.set_config("))
      yield Buffer.from(`${text}\n`);
  }
}

/**
 * Holds the rows of every restored table against a second, independent decode of the archive: its rows are loaded into a
 * temporary table, and number and sum of the rows' hashes have to be the same, in whatever order they lie. It reads the
 * archive once more and takes about as long as loading it without indexes. Gives the number of tables that were compared;
 * rows that were dumped as INSERT are in none. Fails with ARCHIVE_DIFFERS naming the tables, PROGRAM_FAILED, or as the
 * source does.
 */
export async function compareRows({
  source,
  access,
  database,
  useList,
  listFile,
  signal,
}: RowsToCheck): Promise<number> {
  const tables: string[] = [];
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
    const input = Readable.from(compareScript(rows.output, tables), { objectMode: false });
    await using chain = await openChain([psql], { signal, input });
    const answers: Buffer[] = [];
    for await (const chunk of chain.output as AsyncIterable<Buffer>) answers.push(chunk);
    await chain.done;
    const said = new Set(Buffer.concat(answers).toString("utf8").split("\n"));
    const different = tables.filter((_, index) => !said.has(`coppice ${index} true`));
    if (different.length > 0)
      fail(
        "ARCHIVE_DIFFERS",
        `the rows of ${different.join(", ")} are not the archive's in ${JSON.stringify(database)}`,
      );
    return tables.length;
  } finally {
    await rm(listFile, { force: true });
  }
}
