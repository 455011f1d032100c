// One thing: servers that are not the one that was archived, and yet are called so: promoted twins, copies, new ones.
import { cp, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { planRecovery } from "@coppice/proto/kit/recovery/plan";
import type { RecoveryInput } from "@coppice/proto/kit/recovery/recovery-input";
import { parseTimelineHistory } from "@coppice/proto/kit/recovery/timeline-history";
import { recoveryWindows } from "@coppice/proto/kit/recovery/windows";
import { parseLsn } from "@coppice/proto/kit/wal/lsn";
import { expect, test } from "vitest";
import { addExtent, type WalExtent } from "../../agent/src/wal/store/extent.ts";
import { openStandby } from "../support/physical/standby.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";
import { runProgram } from "../support/run-program.ts";
import { listFiles } from "../support/scenarios/files.ts";
import { type ArchiveLab, openArchiveLab } from "../support/wal/archive-lab.ts";
import { archiveOf, openCopy } from "../support/wal/copied-server.ts";
import { expectSame, receives, watchArchive, writeSegments } from "../support/wal/running-archive.ts";

const segmentBytes = 16n << 20n;
const patient = { timeout: 60_000, interval: 50 };

/** Everything that is stored, as it can be told apart from another file of the name. */
async function portray(lab: ArchiveLab): Promise<ReadonlyMap<string, string>> {
  const portrait = new Map<string, string>();
  for (const file of await listFiles(join(lab.folder, "repository"))) {
    if (file.includes("unfinished")) continue;
    const { ino, size, mtimeMs } = await stat(join(lab.folder, "repository", file));
    portrait.set(file, `${ino} ${size} ${mtimeMs}`);
  }
  return portrait;
}

/** Nothing that was there is gone or another file. */
async function expectKept(lab: ArchiveLab, before: ReadonlyMap<string, string>): Promise<void> {
  const now = await portray(lab);
  expect([...before].filter(([file, was]) => now.get(file) !== was)).toEqual([]);
}

const end = async (server: PostgresServer) =>
  parseLsn(await server.sql("postgres", "select pg_current_wal_flush_lsn()"));

test("a promoted standby and its old primary, both archived, keep to their own timelines, and both can be recovered", async () => {
  await using primary = await openPostgresServer({ major: 17, settings: { wal_keep_size: "1GB" } });
  await using standby = await openStandby(primary, { wal_keep_size: "1GB" });
  await using lab = await openArchiveLab(primary, { maxAgeSeconds: 1 });
  const promoted = archiveOf(lab, standby, "twin");
  const runs: WalExtent[] = [];
  let forkLsn: bigint;
  let content: string;
  {
    await using old = watchArchive(lab);
    await receives(primary);
    const startLsn = parseLsn(await primary.sql("postgres", "select redo_lsn from pg_control_checkpoint()"));
    const written = await writeSegments(primary, 2);
    await old.stored(written);
    const replayed = () => standby.sql("postgres", "select pg_last_wal_replay_lsn()").then(parseLsn);
    await expect.poll(replayed, patient).toBeGreaterThanOrEqual(written - segmentBytes);
    await standby.sql("postgres", "select pg_promote()");
    // The old one knows nothing of it.
    await primary.sql("postgres", "insert into load select id, 'lost' from generate_series(1, 1000) id");
    await writeSegments(primary, 2);
    await old.stored(await end(primary));
    const before = await portray(lab);

    await using young = watchArchive(promoted, "elsewhere");
    await receives(standby, "twin");
    const [ofYoung, ofOld] = [await writeSegments(standby, 2), await writeSegments(primary, 2)];
    await young.stored(ofYoung);
    await old.stored(ofOld);
    await expectKept(lab, before);
    content = (await lab.fetch("00000002.history"))?.toString() ?? "";
    const files = (await readFile(join(standby.dataDir, "pg_wal/00000002.history"))).toString();
    expect(content).toBe(files);
    forkLsn = parseTimelineHistory(2, content).ancestors[0]?.endLsn ?? 0n;
    runs.push(...old.extents(), ...young.extents());
    const extents = runs.reduce<WalExtent[]>((all, run) => addExtent(all, run), []);
    expect(extents.map(({ timeline }) => timeline)).toEqual([1, 2]);
    const [first, second] = extents;
    if (first === undefined || second === undefined) throw new Error("nothing is stored");
    expect(second.startLsn).toBe(forkLsn - (forkLsn % segmentBytes));
    await expectSame(lab, primary, first);
    await expectSame(lab, standby, second);

    const base = { id: "bkp_1", repository: "rep_1", method: "full", complete: true, state: "STORED" } as const;
    const systemIdentifier = lab.archive.systemIdentifier;
    const own = { repository: "rep_1", systemIdentifier };
    const times = { startTimeUs: 0n, stopTimeUs: 1n, walEmbedded: false, storedBytes: 1n };
    const input: RecoveryInput = {
      systemIdentifier,
      segmentBytes,
      backups: [{ ...base, ...own, ...times, timeline: 1, startLsn, stopLsn: startLsn + 1n }],
      extents: extents.map((extent) => ({ ...extent, ...own })),
      histories: [parseTimelineHistory(2, content)],
      anchors: [],
    };
    const windows = recoveryWindows(input).map(({ timelines, endLsn }) => ({ timelines, endLsn }));
    expect(windows).toEqual([
      { timelines: [1, 2], endLsn: second.endLsn },
      { timelines: [1], endLsn: first.endLsn },
    ]);
    // Who names no timeline gets the promoted one, past the fork; the old one's is had by its name.
    const lsn = forkLsn + 8192n;
    expect(planRecovery(input, { kind: "lsn", lsn, exclusive: true })).toMatchObject({ timelines: [1, 2] });
    expect(planRecovery(input, { kind: "lsn", lsn, exclusive: true, timeline: 1 })).toMatchObject({ timelines: [1] });
  }
  // The agent of the old one is told that the cluster is where the promoted one is.
  const before = await portray(lab);
  await using moved = watchArchive(archiveOf(lab, standby, "archive"));
  await receives(standby);
  await moved.stored(await writeSegments(standby, 1));
  await expectKept(lab, before);
  expect(moved.extents().map(({ timeline }) => timeline)).toEqual([1, 2]);
  expect(moved.newest()).toMatchObject({ timeline: 2 });
});

test("a copy of the server with its slot is refused, behind the archive's end and beyond it, and the server goes on", async () => {
  await using server = await openPostgresServer({ major: 18, settings: { wal_keep_size: "1GB" } });
  // No part of a segment is on its way when an archive ends: it would be there a moment later.
  await using lab = await openArchiveLab(server);
  {
    await using running = watchArchive(lab);
    await receives(server);
    await running.stored(await writeSegments(server, 1));
    // It ends when everything is stored.
    await server.stop("fast");
  }
  await using copy = await openCopy(server, { wal_keep_size: "1GB" });
  expect(await copy.sql("postgres", "select slot_name from pg_replication_slots")).toBe("archive");
  await server.start();
  let lastLsn: bigint;
  {
    await using running = watchArchive(lab);
    await receives(server);
    lastLsn = await writeSegments(server, 2);
    await running.stored(lastLsn);
  }
  const before = await portray(lab);
  {
    await using other = watchArchive(archiveOf(lab, copy, "archive"));
    await other.inTrouble("WAL_FOREIGN");
    // With WAL of its own under the same positions, and more of it.
    await writeSegments(copy, 4);
    await other.inTrouble("WAL_CONFLICT");
    // Its clock says nothing of the archive's positions.
    expect(other.anchors()).toEqual([]);
    await expectKept(lab, before);
    expect((await portray(lab)).size).toBe(before.size);
  }
  await using running = watchArchive(lab);
  await receives(server);
  await running.stored(await writeSegments(server, 1));
  await expectKept(lab, before);
  const [extent, ...others] = running.extents();
  expect(others).toEqual([]);
  if (extent) await expectSame(lab, server, extent);
});

/** Server, agent and index as they were: a virtual machine that was cloned, or set back. */
async function copyMachine(server: PostgresServer, lab: ArchiveLab, state: string): Promise<PostgresServer> {
  await server.stop("fast");
  const copy = await openPostgresServer({
    major: 18,
    settings: { wal_keep_size: "1GB" },
    copy: {
      password: server.password,
      async fill(dataDir) {
        await cp(server.dataDir, dataDir, { recursive: true });
        const owner = `${server.owner.uid}:${server.owner.gid}`;
        await runProgram("chown", ["-R", owner, dataDir], { env: { PATH: "/usr/bin:/bin" } });
      },
    },
  });
  await cp(join(lab.folder, "state"), join(lab.folder, state), { recursive: true });
  await server.start();
  return copy;
}

test("a machine that was set back, or cloned, with its agent and what that knew stores nothing beside what was archived since", async () => {
  await using server = await openPostgresServer({ major: 18, settings: { wal_keep_size: "1GB" } });
  await using lab = await openArchiveLab(server, { maxAgeSeconds: 1 });
  {
    await using running = watchArchive(lab);
    await receives(server);
    await running.stored(await writeSegments(server, 1));
    await server.sql("postgres", "checkpoint");
    await running.stored(await end(server));
  }
  await using setBack = await copyMachine(server, lab, "set back");
  await using cloned = await copyMachine(server, lab, "cloned");
  await using clone = watchArchive(archiveOf(lab, cloned, "archive"), "cloned");
  await clone.stored(await end(cloned));
  {
    await using running = watchArchive(lab);
    await receives(server);
    await running.stored(await writeSegments(server, 2));
  }
  const before = await portray(lab);
  // One that runs beside the original and is slower finds whole what it has a part of.
  await cloned.sql("postgres", "insert into load values (-1, 'of the clone')");
  await clone.inTrouble("WAL_CONFLICT");
  await using other = watchArchive(archiveOf(lab, setBack, "archive"), "set back");
  await other.inTrouble("WAL_FOREIGN");
  await setBack.sql("postgres", "insert into load values (-2, 'set back')");
  await expect.poll(async () => other.newest()?.serverLsn !== "", patient).toBe(true);
  expect((await portray(lab)).size).toBe(before.size);
  await expectKept(lab, before);
});

test("a cluster that was made anew in the place of the one that was archived is refused, and gets no slot", async () => {
  await using server = await openPostgresServer({ major: 15, settings: { wal_keep_size: "1GB" } });
  await using lab = await openArchiveLab(server);
  {
    await using running = watchArchive(lab);
    await receives(server);
    await running.stored(await writeSegments(server, 1));
  }
  const before = await portray(lab);
  await using anew = await openPostgresServer({ major: 15 });
  const archive = archiveOf(lab, anew, "archive");
  await using other = watchArchive({
    ...archive,
    secret: (id) => (id === "sec_password" ? anew.password : lab.secret(id)),
  });
  await other.inTrouble("WAL_FOREIGN");
  await writeSegments(anew, 2);
  expect(await anew.sql("postgres", "select count(*) from pg_replication_slots")).toBe("0");
  await expectKept(lab, before);
  expect((await portray(lab)).size).toBe(before.size);
});
