import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { formatLsn } from "@coppice/proto/kit/wal/lsn";
import { parseWalFile } from "@coppice/proto/kit/wal/segment";
import { expect, test } from "vitest";
import { openRecordReader, type TransactionEnd } from "../../agent/src/postgres/wal/record-reader.ts";
import { openPostgresServer } from "../support/postgres-servers.ts";
import { runProgram } from "../support/run-program.ts";

const segmentBytes = 16n << 20n;

test.each([15, 17, 18])(
  "of WAL of PostgreSQL %i every end of a transaction is read, with the place and the time that pg_waldump gives",
  async (major) => {
    await using server = await openPostgresServer({
      major,
      settings: { max_prepared_transactions: "2", wal_keep_size: "1GB" },
    });
    const sql = (text: string) => server.sql("postgres", text);
    await sql("create table t (id int, text text)");
    // Records that go over pages and over a segment, savepoints, aborts, transactions in two steps, a switch.
    for (let i = 0; i < 3; i++) {
      await sql("insert into t select i, repeat(md5(i::text), 40) from generate_series(1, 5000) i");
      await sql("do $$ begin for i in 1..300 loop insert into t values (i); commit; end loop; end $$");
    }
    await sql("begin; insert into t values (1); savepoint s; insert into t values (2); rollback to s; commit");
    await sql("begin; insert into t values (3); rollback");
    await sql("begin; insert into t values (4); prepare transaction 'one'");
    await sql("commit prepared 'one'");
    await sql("begin; insert into t values (5); prepare transaction 'two'");
    await sql("rollback prepared 'two'");
    await sql("select pg_switch_wal()");
    await sql("insert into t values (6)");
    await sql("select pg_switch_wal(); checkpoint");

    const folder = join(server.dataDir, "pg_wal");
    const names = (await readdir(folder)).filter((name) => parseWalFile(name, segmentBytes)?.kind === "segment").sort();
    const [first = "", last = ""] = [names[0], names.at(-1)];
    const ends: TransactionEnd[] = [];
    const reader = openRecordReader(segmentBytes, { onEnd: (end) => ends.push(end) });
    for (const name of names) {
      const file = parseWalFile(name, segmentBytes);
      if (file?.kind !== "segment") throw new Error(`${name} is no segment`);
      const bytes = await readFile(join(folder, name));
      // In pieces that are no pages.
      for (let at = 0; at < bytes.length; at += 100_003)
        reader.take(bytes.subarray(at, at + 100_003), file.startLsn + BigInt(at));
    }
    const args = ["--path", folder, "--rmgr=Transaction", first, last];
    const { stdout } = await runProgram(join(server.binDir, "pg_waldump"), args, { env: { TZ: "UTC" } });
    const expected = [
      ...stdout.matchAll(/lsn: (\S+), .*? desc: (?:COMMIT|ABORT)(?:_PREPARED)? (?:xid \d+: |\d+: )?(\S+ \S+) UTC/g),
    ];
    expect(expected.length).toBeGreaterThan(900);
    const asText = ({ startLsn, timeUs }: TransactionEnd) => {
      const at = new Date(Number(timeUs / 1000n)).toISOString().replace("T", " ").slice(0, 23);
      return `${formatLsn(startLsn)} ${at}${(timeUs % 1000n).toString().padStart(3, "0")}`;
    };
    const lsnOf = (text: string) => text.replace(/\/0*(?=.)/, "/");
    expect(ends.map(asText)).toEqual(expected.map(([, lsn = "", time = ""]) => `${lsnOf(lsn)} ${time}`));
  },
);
