// The archive of a server's WAL as a whole: what is stored is what the server wrote, through every kind of interruption.
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { openLog } from "@coppice/proto/kit/log";
import { parseLsn } from "@coppice/proto/kit/wal/lsn";
import { segmentName } from "@coppice/proto/kit/wal/segment";
import type { WalReport } from "@coppice/proto/gen/coppice/agent/v1/wal_archive";
import { Client } from "pg";
import { describe, expect, test } from "vitest";
import { openBudget } from "../../agent/src/budget.ts";
import { runArchive, type RunningArchive } from "../../agent/src/wal/receive/archive.ts";
import { addExtent, type WalExtent } from "../../agent/src/wal/store/extent.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";
import { type ArchiveLab, openArchiveLab } from "../support/wal/archive-lab.ts";
import { endOfSwitched } from "../support/wal/running-archive.ts";
import { runProgram } from "../support/run-program.ts";

const patient = { timeout: 20_000, interval: 50 };
const log = openLog({ level: "error", name: "test" });
const segmentBytes = 16n << 20n;

function run(lab: ArchiveLab): RunningArchive & AsyncDisposable {
  const ending = new AbortController();
  const running = runArchive({
    archive: lab.archive,
    secret: lab.secret,
    folder: join(lab.folder, "state"),
    clientFiles: { home: "/nonexistent" },
    budget: openBudget(64 << 20),
    log,
    signal: ending.signal,
  });
  return Object.assign(running, {
    async [Symbol.asyncDispose]() {
      ending.abort();
      await running.ended;
    },
  });
}

/** Some WAL, and the end of the last whole segment of it. */
async function write(server: PostgresServer, segments = 1): Promise<bigint> {
  await server.sql("postgres", "create table if not exists load (id int, text text)");
  let end = 0n;
  for (let i = 0; i < segments; i++) {
    await server.sql(
      "postgres",
      "insert into load select id, repeat(md5(id::text), 4) from generate_series(1, 5000) id",
    );
    end = parseLsn(await server.sql("postgres", "select pg_switch_wal()"));
  }
  return endOfSwitched(end, segmentBytes);
}

/** Waits until everything before the position is reported as stored, and gives the newest report. */
async function stored(running: RunningArchive, lsn: bigint): Promise<WalReport> {
  let last: WalReport | undefined;
  const storedLsn = () => {
    last = running.report() ?? last;
    return last?.storedLsn ? parseLsn(last.storedLsn) : 0n;
  };
  await expect.poll(storedLsn, patient).toBeGreaterThanOrEqual(lsn);
  if (!last) throw new Error("no report");
  return last;
}

const extentsOf = (report: WalReport): WalExtent[] =>
  report.stored
    .map((run) => ({ timeline: run.timeline, startLsn: parseLsn(run.startLsn), endLsn: parseLsn(run.endLsn) }))
    .reduce<WalExtent[]>((extents, one) => addExtent(extents, one), []);

async function expectSame(lab: ArchiveLab, server: PostgresServer, timeline: number, from: bigint, to: bigint) {
  let compared = 0;
  for (let lsn = from - (from % segmentBytes); lsn < to; lsn += segmentBytes) {
    const name = segmentName(timeline, lsn, segmentBytes);
    const written = await readFile(join(server.dataDir, "pg_wal", name));
    expect((await lab.fetch(name))?.equals(written), name).toBe(true);
    compared++;
  }
  expect(compared).toBeGreaterThan(0);
}

describe.each([15, 17, 18])("PostgreSQL %i", (major) => {
  test("segments are stored as the server wrote them, without a hole across an agent's end, and the slot follows", async () => {
    await using server = await openPostgresServer({ major, settings: { wal_keep_size: "1GB" } });
    await using lab = await openArchiveLab(server);
    let first: bigint;
    {
      await using running = run(lab);
      const [begin] = extentsOf(await stored(running, await writeWhenReady(server, 3)));
      first = begin?.startLsn ?? 0n;
    }
    // Nobody is there: the slot keeps it.
    const missed = await write(server, 3);
    await using running = run(lab);
    const end = await write(server, 2);
    expect(end).toBeGreaterThan(missed);
    const report = await stored(running, end);
    expect(extentsOf(report)).toEqual([{ timeline: 1, startLsn: first, endLsn: parseLsn(report.storedLsn) }]);
    expect(report).toMatchObject({ segmentBytes, timeline: 1 });
    expect(report.trouble).toBeUndefined();
    await expectSame(lab, server, 1, first, end);
    const restart = () =>
      server.sql("postgres", "select restart_lsn from pg_replication_slots where slot_name = 'archive'");
    await expect.poll(async () => parseLsn(await restart()), patient).toBeGreaterThanOrEqual(end);
    running.acknowledge(report.number);
    await expect.poll(() => running.report()?.stored ?? [], patient).toEqual([]);
    expect(await lab.fetch("0000000100000FFF000000FF")).toBeUndefined();
  });

  test("a segment that is not full is stored in time, and read with zeros behind; a fast shutdown loses nothing", async () => {
    await using server = await openPostgresServer({ major });
    await using lab = await openArchiveLab(server, { maxAgeSeconds: 1 });
    await using running = run(lab);
    await stored(running, await writeWhenReady(server, 1));
    await server.sql("postgres", "insert into load values (-1, 'last')");
    const lsn = parseLsn(await server.sql("postgres", "select pg_current_wal_flush_lsn()"));
    await stored(running, lsn);
    const name = segmentName(1, lsn, segmentBytes);
    const fetched = await lab.fetch(name);
    expect(fetched?.length).toBe(Number(segmentBytes));
    const length = Number(lsn % segmentBytes);
    const written = await readFile(join(server.dataDir, "pg_wal", name));
    expect(fetched?.subarray(0, length).equals(written.subarray(0, length))).toBe(true);
    await server.stop("fast");
    const control = await runProgram(join(server.binDir, "pg_controldata"), [server.dataDir], {
      env: { PATH: "/usr/bin:/bin", LANG: "C" },
    });
    const checkpoint = /Latest checkpoint location:\s+(\S+)/.exec(control.stdout)?.[1] ?? "";
    await stored(running, parseLsn(checkpoint) + 1n);
    await server.start();
    await stored(running, await write(server, 1));
  });
});

test("what begins in one segment and ends in the next is stored in time, though nothing follows", async () => {
  // Neither does the server itself write anything for a while.
  await using server = await openPostgresServer({ major: 18, settings: { autovacuum: "off", bgwriter_delay: "10s" } });
  await using lab = await openArchiveLab(server, { maxAgeSeconds: 1 });
  await using running = run(lab);
  await stored(running, await writeWhenReady(server, 1));
  const emit = async (length: string) => {
    const text = `select pg_logical_emit_message(true, 'x', repeat('x', (${length})::int))`;
    await server.sql("postgres", text);
    return parseLsn(await server.sql("postgres", "select pg_current_wal_flush_lsn()"));
  };
  // Each page of 8192 has a header of 24.
  const room = `${segmentBytes} - mod(pg_current_wal_insert_lsn() - '0/0', ${segmentBytes})`;
  const before = await emit(`(${room}) * 8168 / 8192 - 10000`);
  await stored(running, before);
  const end = await emit("20000");
  expect(end / segmentBytes).toBe(before / segmentBytes + 1n);
  const storedLsn = () => parseLsn(running.report()?.storedLsn ?? "0/0");
  await expect.poll(storedLsn, { timeout: 7000 }).toBeGreaterThanOrEqual(end);
});

test("after a promotion the new timeline is archived from its beginning, its history with it", async () => {
  await using server = await openPostgresServer({ major: 17, settings: { wal_keep_size: "1GB" } });
  await using lab = await openArchiveLab(server, { maxAgeSeconds: 1 });
  await using running = run(lab);
  const end = await writeWhenReady(server, 2);
  await stored(running, end);
  await server.stop("immediate");
  await writeFile(join(server.dataDir, "standby.signal"), "", { mode: 0o600 });
  await runProgram("chown", [`${server.owner.uid}:${server.owner.gid}`, join(server.dataDir, "standby.signal")], {
    env: { PATH: "/usr/bin:/bin" },
  });
  await server.start();
  await server.sql("postgres", "select pg_promote()");
  const after = await write(server, 2);
  const report = await stored(running, after);
  expect(report).toMatchObject({ timeline: 2, histories: [{ timeline: 2 }] });
  const extents = extentsOf(report);
  const [content] = report.histories.map((history) => history.content);
  const [, switchLsn = ""] = /^1\t(\S+)/.exec(content ?? "") ?? [];
  expect(extents.findLast(({ timeline }) => timeline === 1)?.endLsn).toBe(parseLsn(switchLsn));
  const second = extents.filter(({ timeline }) => timeline === 2);
  expect(second[0]?.startLsn).toBe(parseLsn(switchLsn) - (parseLsn(switchLsn) % segmentBytes));
  await expectSame(lab, server, 2, second[0]?.startLsn ?? 0n, after);
  expect((await lab.fetch("00000002.history"))?.toString()).toBe(content);
});

test("WAL that the server gave up is a gap that is declared, and what follows is archived", async () => {
  const settings = { max_slot_wal_keep_size: "16MB", max_wal_size: "32MB", min_wal_size: "32MB" };
  await using server = await openPostgresServer({ major: 18, settings });
  await using lab = await openArchiveLab(server);
  {
    await using running = run(lab);
    await stored(running, await writeWhenReady(server, 1));
    let slot: WalReport["slot"];
    const isSeen = () => {
      slot = running.report()?.slot ?? slot;
      return slot?.active === true && slot.restartLsn !== "";
    };
    await expect.poll(isSeen, patient).toBe(true);
    expect(slot).toMatchObject({
      name: "archive",
      exists: true,
      walStatus: expect.stringMatching(/^(reserved|extended)$/) as string,
    });
    const [safe, kept] = [slot?.safeWalBytes ?? 0n, slot?.keptBytes ?? 0n];
    expect(safe > 0n && safe <= 64n << 20n, String(safe)).toBe(true);
    expect(kept <= 48n << 20n, String(kept)).toBe(true);
  }
  await write(server, 8);
  await server.sql("postgres", "checkpoint");
  // Else it gives up what a busy machine is slow to take, once more.
  await server.sql("postgres", "alter system set max_slot_wal_keep_size = -1");
  await server.sql("postgres", "select pg_reload_conf()");
  await using running = run(lab);
  const seen: string[] = [];
  const reasons = () => {
    seen.push(running.report()?.trouble?.reason ?? "");
    return seen;
  };
  await expect.poll(reasons, patient).toContain("WAL_REMOVED");
  const report = await stored(running, await writeWhenReady(server, 2));
  expect(report.trouble).toBeUndefined();
  expect(extentsOf(report)).toHaveLength(2);
});

test("a slot that the server gave up because nobody used it is made anew, and nothing is left out", async () => {
  const settings = { idle_replication_slot_timeout: "1s", wal_keep_size: "1GB" };
  await using server = await openPostgresServer({ major: 18, settings });
  await using lab = await openArchiveLab(server);
  {
    await using running = run(lab);
    await stored(running, await writeWhenReady(server, 1));
  }
  const slot = "select coalesce(invalidation_reason, '') from pg_replication_slots where slot_name = 'archive'";
  const reason = async () => {
    await server.sql("postgres", "checkpoint");
    return await server.sql("postgres", slot);
  };
  await expect.poll(reason, patient).toBe("idle_timeout");
  const end = await write(server, 2);
  await using running = run(lab);
  const report = await stored(running, end);
  expect(report.trouble).toBeUndefined();
  expect(extentsOf(report)).toHaveLength(1);
  expect(await server.sql("postgres", slot)).toBe("");
});

test("a position that a crash may give to other WAL is not related to a time", async () => {
  await using server = await openPostgresServer({ major: 18, settings: { wal_writer_delay: "10s" } });
  await server.sql("postgres", "create table load (id int, text text)");
  await using lab = await openArchiveLab(server);
  const { port, superuser: user, password } = server;
  const client = new Client({ host: "127.0.0.1", port, user, password, database: "postgres" });
  await client.connect();
  await client.query("begin; insert into load select id, md5(id::text) from generate_series(1, 100) id");
  const { rows } = await client.query<{ lsn: string }>("select pg_current_wal_insert_lsn()::text as lsn");
  const unflushed = parseLsn(rows[0]?.lsn ?? "");
  {
    await using running = run(lab);
    let report: WalReport | undefined;
    const serverLsn = () => {
      report = running.report() ?? report;
      return report?.serverLsn ? parseLsn(report.serverLsn) : 0n;
    };
    await expect.poll(serverLsn, patient).toBeGreaterThanOrEqual(unflushed);
    const flushed = parseLsn(await server.sql("postgres", "select pg_current_wal_flush_lsn()"));
    expect(report?.anchors.filter(({ lsn }) => parseLsn(lsn) > flushed)).toEqual([]);
  }
  await client.end();
  // An idle server, whose position lies behind the header of a page that is not written yet, is told of all the same.
  await server.sql("postgres", "select pg_switch_wal()");
  await using running = run(lab);
  const idle = parseLsn(await server.sql("postgres", "select pg_current_wal_insert_lsn()"));
  const known = () => parseLsn(running.report()?.anchors.at(-1)?.lsn ?? "0/0");
  await expect.poll(known, patient).toBeGreaterThanOrEqual(idle);
});

test("WAL of another server is never archived", async () => {
  await using server = await openPostgresServer({ major: 18 });
  await using lab = await openArchiveLab(server);
  lab.archive.systemIdentifier = "7312345678901234567";
  await using running = run(lab);
  await expect.poll(() => running.report()?.trouble?.reason, patient).toBe("WAL_FOREIGN");
});

/** As write, once the archive has made its slot: what is written before is not its business. */
async function writeWhenReady(server: PostgresServer, segments: number): Promise<bigint> {
  const active = "select count(*) from pg_replication_slots where slot_name = 'archive' and active";
  await expect.poll(() => server.sql("postgres", active), patient).toBe("1");
  return await write(server, segments);
}
