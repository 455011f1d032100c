// One thing: stores that are slow, hang, answer wrongly or are cut off while WAL streams into them, and the WAL that is
// there afterwards: each segment once, as the server wrote it, without a hole.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { formatLsn, parseLsn } from "@coppice/proto/kit/wal/lsn";
import { segmentName } from "@coppice/proto/kit/wal/segment";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { openCephLab, whyNoCephLab } from "../support/ceph/lab.ts";
import { credentialOf, newBucket } from "../support/ceph/s3-place.ts";
import { type Fault, type FaultProxy, openFaultProxy } from "../support/faults/fault-proxy.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";
import { startSshd, type Sshd } from "../support/sshd/sshd.ts";
import { type ArchiveLab, openArchiveLab } from "../support/wal/archive-lab.ts";
import {
  expectSame,
  receives,
  type WatchedArchive,
  watchArchive,
  writeSegments,
} from "../support/wal/running-archive.ts";

const segmentBytes = 16n << 20n;
const patient = { timeout: 60_000, interval: 50 };
const stack = new AsyncDisposableStack();
let server: PostgresServer;

beforeAll(async () => {
  server = stack.use(await openPostgresServer({ major: 18, settings: { wal_keep_size: "2GB" } }));
});
afterAll(() => stack.disposeAsync());

/** Everything that was stored is one run, and from a position on what the server has. */
async function expectWhole(lab: ArchiveLab, running: WatchedArchive, startLsn: bigint): Promise<number> {
  const [extent, ...others] = running.extents();
  expect(others).toEqual([]);
  if (extent === undefined) throw new Error("nothing is stored");
  expect(extent.startLsn).toBeLessThanOrEqual(startLsn);
  return await expectSame(lab, server, { ...extent, startLsn });
}

const heldBySlot = () =>
  server
    .sql("postgres", "select restart_lsn from pg_replication_slots where slot_name = 'archive'")
    .then((lsn) => parseLsn(lsn));

describe("S3", () => {
  const unavailable = whyNoCephLab();
  let proxy: FaultProxy;
  let lab: ArchiveLab;
  beforeAll(async () => {
    if (unavailable !== undefined) return;
    const ceph = await openCephLab();
    proxy = stack.use(await openFaultProxy(ceph.endpoint));
    const bucket = await newBucket(ceph, { endpoint: proxy.endpoint });
    lab = stack.use(
      await openArchiveLab(server, {
        place: { location: { case: "s3", value: bucket }, credential: credentialOf(ceph.owner) },
      }),
    );
  });

  beforeEach(({ skip }) => {
    if (unavailable !== undefined) skip(unavailable);
  });

  /** Has the put of a segment go wrong as long as it lasts; gives how often that was. */
  function disturb(name: string, fault: (earlier: number) => Fault | undefined): () => number {
    let met = 0;
    proxy.rule = ({ method, url }) => {
      if (method !== "PUT" || !url.includes(name)) return undefined;
      const found = fault(met);
      if (found !== undefined) met += 1;
      return found;
    };
    return () => met;
  }

  test("a segment that hangs holds back the slot, and is not left out by an agent that begins again", async () => {
    const next = async () => {
      const lsn = parseLsn(await server.sql("postgres", "select pg_current_wal_insert_lsn()"));
      return lsn - (lsn % segmentBytes);
    };
    let hungLsn: bigint;
    {
      await using running = watchArchive(lab);
      await receives(server);
      await running.stored(await writeSegments(server, 1));
      hungLsn = await next();
      const hung = disturb(segmentName(1, hungLsn, segmentBytes), () => ({ is: "hang" }));
      await writeSegments(server, 3);
      // What comes behind it is stored.
      await expect.poll(() => running.extents().length, patient).toBe(2);
      expect(hung()).toBeGreaterThan(0);
      expect(running.extents()[0]?.endLsn).toBeLessThanOrEqual(hungLsn + segmentBytes - 1n);
      expect(parseLsn(running.newest()?.storedLsn ?? "0/0")).toBeLessThan(hungLsn + segmentBytes);
      expect(await heldBySlot(), formatLsn(hungLsn)).toBeLessThan(hungLsn + segmentBytes);
    }
    proxy.rule = () => undefined;
    await using running = watchArchive(lab);
    await receives(server);
    await running.stored(await writeSegments(server, 1));
    expect(await expectWhole(lab, running, hungLsn)).toBeGreaterThan(1);
    expect(running.troubles()).toEqual([]);
  });

  test("puts that are refused, never arrive, are slow, or stored without an answer store each segment once, as it was", async () => {
    await using running = watchArchive(lab);
    await receives(server);
    const lsn = parseLsn(await server.sql("postgres", "select pg_current_wal_insert_lsn()"));
    const faults: readonly (readonly Fault[])[] = [
      [
        { is: "answer", status: 503 },
        { is: "answer", status: 500 },
      ],
      [{ is: "drop-answer" }],
      [{ is: "drop" }, { is: "drop" }],
      [{ is: "delay", ms: 1500 }],
    ];
    const names = faults.map((_, index) => segmentName(1, lsn + BigInt(index) * segmentBytes, segmentBytes));
    const met = names.map(() => 0);
    proxy.rule = ({ method, url }) => {
      const index = method === "PUT" ? names.findIndex((name) => url.includes(name)) : -1;
      const earlier = met[index];
      if (earlier === undefined) return undefined;
      met[index] = earlier + 1;
      return faults[index]?.[earlier];
    };
    await running.stored(await writeSegments(server, faults.length + 1));
    expect(met.map((count, index) => count >= (faults[index]?.length ?? 0))).not.toContain(false);
    proxy.rule = () => undefined;
    expect(await expectWhole(lab, running, lsn)).toBeGreaterThan(1);
  });
});

describe("SSH", () => {
  let sshd: Sshd;
  let lab: ArchiveLab;
  beforeAll(async () => {
    sshd = stack.use(await startSshd());
    const folder = await mkdtemp(join(tmpdir(), "coppice-wal-ssh-"));
    stack.defer(() => rm(folder, { recursive: true, force: true }));
    lab = stack.use(
      await openArchiveLab(server, { place: { location: { case: "ssh", value: sshd.location(folder) } } }),
    );
    // Another archive's slot is not its own.
    if (lab.archive.settings) lab.archive.settings.slot = "by_ssh";
  });

  test.each<[string, () => Promise<void>]>([
    ["are killed", () => sshd.signalSessions("SIGKILL")],
    [
      "stand still for a while",
      async () => {
        await sshd.signalSessions("SIGSTOP");
        await delay(1500);
        await sshd.signalSessions("SIGCONT");
      },
    ],
  ])("connections that %s while WAL streams leave each segment once, as it was", async (_, disturb) => {
    await using running = watchArchive(lab);
    await receives(server, "by_ssh");
    const startLsn = parseLsn(await server.sql("postgres", "select pg_current_wal_insert_lsn()"));
    const writing = writeSegments(server, 3);
    await disturb();
    await running.stored(await writing);
    // And again when nothing is on its way.
    await disturb();
    await running.stored(await writeSegments(server, 1));
    expect(await expectWhole(lab, running, startLsn)).toBeGreaterThan(1);
  });
});
