// Ending a segment for a backup of a standby, by the agent that archives its primary's WAL.
import { create } from "@bufbuild/protobuf";
import { EndSegmentSchema } from "@coppice/proto/gen/coppice/agent/v1/wal_archive";
import { WalMode } from "@coppice/proto/gen/coppice/common/v1/wal_archive";
import { openLog } from "@coppice/proto/kit/log";
import { formatLsn, parseLsn } from "@coppice/proto/kit/wal/lsn";
import { expect, test } from "vitest";
import { openConnection } from "../../agent/src/postgres/connect.ts";
import { openAskedSegments } from "../../agent/src/wal/receive/end-asked-segment.ts";
import { endSegment, type WantedSegment } from "../../agent/src/postgres/wal/end-segment.ts";
import { openPhysicalLab, physicalContent } from "../support/physical/physical-lab.ts";
import { openStandby } from "../support/physical/standby.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";
import { replicationEndpoint } from "../support/replication/replication-endpoint.ts";
import { openArchiveLab } from "../support/wal/archive-lab.ts";
import { archiveBy, patient, whenHanded, whenStored, writeSegments } from "../support/wal/push-lab.ts";

const size = 16n << 20n;
const systemOf = (server: PostgresServer) =>
  server.sql("postgres", "select system_identifier from pg_control_system()");
const insertLsn = async (server: PostgresServer) =>
  parseLsn(await server.sql("postgres", "select pg_current_wal_insert_lsn()"));
/** Else two switches would be one. */
const writeSome = (server: PostgresServer) =>
  server.sql("postgres", "select pg_logical_emit_message(true, 'some', 'thing')");

test("only the archived primary ends a segment, only the one that it writes into, and once", async () => {
  await using primary = await openPostgresServer({ major: 15 });
  await using standby = await openStandby(primary);
  await writeSome(primary);
  const systemIdentifier = await systemOf(primary);
  const endLsn = await insertLsn(primary);
  const nextLsn = endLsn - (endLsn % size) + size;
  const signal = AbortSignal.timeout(60_000);
  const ask = async (server: PostgresServer, over: Partial<WantedSegment> = {}, user = server.superuser) => {
    await using connection = await openConnection(replicationEndpoint(server, { user }), { signal });
    return await endSegment(connection, { systemIdentifier, timeline: 1, endLsn, ...over });
  };
  expect(await ask(standby)).toBe("standby");
  for (const over of [{ systemIdentifier: "7" }, { timeline: 2 }, { endLsn: nextLsn }])
    expect(await ask(primary, over)).toBe("elsewhere");
  expect(await ask(primary, { endLsn: endLsn - (endLsn % size) })).toBe("past");
  await primary.sql("postgres", `create role watcher login password '${primary.password}'`);
  await expect(ask(primary, {}, "watcher")).rejects.toMatchObject({ reason: "PRIVILEGE_MISSING" });
  expect(await insertLsn(primary)).toBeLessThan(nextLsn);

  expect(await ask(primary)).toBe("switched");
  await writeSome(primary);
  expect(await ask(primary)).toBe("past");
  // Its last byte is in the segment that has ended.
  expect(await ask(primary, { endLsn: nextLsn })).toBe("past");
  const lsn = await insertLsn(primary);
  expect(lsn - (lsn % size)).toBe(nextLsn);
});

test("what is asked for is done where the role may, and else logged once and tried again", async () => {
  await using primary = await openPostgresServer({ major: 18 });
  await using lab = await openArchiveLab(primary);
  await primary.sql("postgres", `create role watcher login password '${primary.password}'`);
  Object.assign(lab.archive.connection?.endpoint ?? {}, { user: "watcher" });
  const lines: string[] = [];
  const log = openLog({ level: "info", name: "test", to: { write: (line) => lines.push(line) } });
  const signal = AbortSignal.timeout(60_000);
  const { archive, secret } = lab;
  const asked = openAskedSegments({ archive, secret, clientFiles: { home: "/nonexistent" }, log, signal });
  await writeSome(primary);
  const before = await insertLsn(primary);
  const nextLsn = before - (before % size) + size;
  const { clusterId, systemIdentifier } = archive;
  const right = { clusterId, systemIdentifier, timeline: 1, lsn: formatLsn(before) };
  const ask = async (over: Partial<typeof right> = {}) => {
    const message = create(EndSegmentSchema, { ...right, ...over });
    for (const one of [message, message]) asked.end(one);
    await asked.rest();
  };
  await ask({ systemIdentifier: "7" });
  expect(lines).toEqual([]);
  await ask({ lsn: "nowhere" });
  await ask({ timeline: 2 });
  for (const _ of [1, 2]) await ask();
  expect(lines.map((line) => (JSON.parse(line) as { msg: string }).msg)).toEqual([
    expect.stringContaining("nowhere") as string,
    expect.stringContaining("on another timeline") as string,
    expect.stringContaining("permission denied for function pg_switch_wal") as string,
  ]);
  expect(await insertLsn(primary)).toBeLessThan(nextLsn);
  await primary.sql("postgres", "grant execute on function pg_switch_wal() to watcher");
  for (const _ of [1, 2]) {
    await ask();
    await writeSome(primary);
  }
  expect(lines.at(-1)).toContain("a segment was ended when asked");
  const after = await insertLsn(primary);
  expect(after - (after % size)).toBe(nextLsn);
});

test("a backup of a standby says what it waits for, and ends when whoever archives has an idle primary end that segment", async () => {
  await using primary = await openPostgresServer({ major: 18, settings: { archive_mode: "on" } });
  await using standby = await openStandby(primary);
  await using lab = await openPhysicalLab(standby);
  await using archives = await openArchiveLab(primary, { maxAgeSeconds: 3600 });
  const wanted = lab.command({ walEmbedded: false, walArchived: true, walWait: { seconds: 60n } });
  const { repository, clusterId } = wanted.backup;
  Object.assign(archives.archive, { repository, clusterId });
  await using archiving = await archiveBy(archives, WalMode.PUSH);
  await whenHanded(archiving);
  await whenStored(archiving, await writeSegments(primary, 1));
  await primary.sql("postgres", "create table t as select 1 as id; checkpoint");
  const end = await insertLsn(primary);
  const caughtUp = `select pg_last_wal_replay_lsn() >= '${formatLsn(end)}'`;
  await expect.poll(() => standby.sql("postgres", caughtUp), patient).toBe("t");
  await standby.sql("postgres", "checkpoint");

  const taking = lab.take(Object.assign(wanted, { walRepository: repository }));
  await expect.poll(() => lab.progress.at(-1)?.awaitedLsn, patient).toMatch("/");
  const { phase, item, awaitedLsn: lsn = "", awaitedTimeline: timeline = 0 } = lab.progress.at(-1) ?? {};
  expect([phase, item]).toEqual(["waiting for WAL", expect.stringMatching(/^[0-9A-F]{24}$/) as string]);
  const asked = create(EndSegmentSchema, { clusterId, systemIdentifier: await systemOf(primary), timeline, lsn });
  // As a control plane does, that says so again and again.
  const asking = setInterval(() => archiving.running.endSegment?.(asked), 100);
  const { manifest } = await taking.finally(() => clearInterval(asking));
  expect(physicalContent(manifest)).toMatchObject({ fromStandby: true, stopLsn: lsn, timeline });
  expect(lab.progress.at(-1)).toMatchObject({ phase: "waiting for WAL", awaitedLsn: "", awaitedTimeline: 0 });
  expect(lab.log.filter((line) => line === `the primary is asked to end the segment with ${lsn}`)).toHaveLength(1);
  const last = parseLsn(lsn) - 1n;
  const after = await insertLsn(primary);
  expect(after - (after % size)).toBe(last - (last % size) + size);
});
