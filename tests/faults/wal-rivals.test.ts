// One thing: two archivers that offer other bytes of the same segment at once, and the archive that comes of it.
import { mkdtemp, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ListObjectVersionsCommand, PutBucketVersioningCommand } from "@aws-sdk/client-s3";
import { WalMode } from "@coppice/proto/gen/coppice/common/v1/wal_archive";
import { parseLsn } from "@coppice/proto/kit/wal/lsn";
import { segmentName } from "@coppice/proto/kit/wal/segment";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openCephLab, whyNoCephLab } from "../support/ceph/lab.ts";
import { credentialOf, newBucket, ownerClient } from "../support/ceph/s3-place.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";
import { listFiles } from "../support/scenarios/files.ts";
import { type ArchiveLab, openArchiveLab } from "../support/wal/archive-lab.ts";
import { archiveOf, openCopy } from "../support/wal/copied-server.ts";
import { archiveBy, extentsOf, whenHanded } from "../support/wal/push-lab.ts";
import {
  expectSame,
  receives,
  type WatchedArchive,
  watchArchive,
  writeSegments,
} from "../support/wal/running-archive.ts";

const segmentBytes = 16n << 20n;
const patient = { timeout: 60_000, interval: 50 };
const settings = { archive_mode: "on", wal_keep_size: "2GB" };
const unavailable = whyNoCephLab();
const stack = new AsyncDisposableStack();
let server: PostgresServer;
let copy: PostgresServer;

beforeAll(async () => {
  server = stack.use(await openPostgresServer({ major: 18, settings }));
  await server.sql("postgres", "create table load (id int, text text)");
  await server.stop("fast");
  // From here on both write to the same positions of the same timeline, each its own.
  copy = stack.use(await openCopy(server, settings));
  await server.start();
});
afterAll(() => stack.disposeAsync());

/** Both are in the midst of a segment, with nothing before it to store. */
async function beginSegment(): Promise<void> {
  const lsnOf = async (one: PostgresServer) => {
    await one.sql("postgres", "select txid_current(); select pg_switch_wal()");
    await one.sql("postgres", "select txid_current(); checkpoint");
    return parseLsn(await one.sql("postgres", "select pg_current_wal_insert_lsn()")) / segmentBytes;
  };
  let [ours, theirs] = [await lsnOf(server), await lsnOf(copy)];
  while (ours < theirs) ours = await lsnOf(server);
  while (theirs < ours) theirs = await lsnOf(copy);
}

interface Side {
  readonly server: PostgresServer;
  readonly lab: ArchiveLab;
  readonly running: WatchedArchive;
  readonly endLsn: bigint;
}

/** Who stored what it had, and who was told of a conflict. */
async function outcome(sides: readonly [Side, Side]): Promise<{ readonly winner: Side; readonly loser: Side }> {
  const [one, other] = sides;
  const isStored = ({ running, endLsn }: Side) => parseLsn(running.newest()?.storedLsn || "0/0") >= endLsn;
  const isRefused = ({ running }: Side) => running.newest()?.trouble?.reason === "WAL_CONFLICT";
  const decided = () => [isStored(one) && isRefused(other), isStored(other) && isRefused(one)];
  await expect.poll(() => decided().filter(Boolean).length, patient).toBe(1);
  return isStored(one) ? { winner: one, loser: other } : { winner: other, loser: one };
}

test("in a folder, by archive_command, one stores its bytes, and the other's server is told no", async () => {
  await using ours = await openArchiveLab(server);
  const folder = await mkdtemp(join(tmpdir(), "coppice-rival-"));
  await using _folder = { [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }) };
  const theirs = { ...archiveOf(ours, copy, "archive"), folder };
  await using one = await archiveBy(ours, WalMode.PUSH);
  await using other = await archiveBy(theirs, WalMode.PUSH);
  await Promise.all([whenHanded(one), whenHanded(other)]);
  await Promise.all([writeSegments(server), writeSegments(copy)]);
  const reasons = () => [one, other].map((each) => each.telling()?.trouble?.reason);
  await expect.poll(() => reasons().filter((reason) => reason === "WAL_CONFLICT").length, patient).toBe(1);
  const [first] = reasons();
  const [winner, loser] = first === undefined ? [one, other] : [other, one];
  const [winning, losing] = first === undefined ? [server, copy] : [copy, server];
  const repository = join(ours.folder, "repository");
  const portray = async () => {
    const portrait = new Map<string, string>();
    for (const file of await listFiles(repository)) {
      const { ino, mtimeMs } = await stat(join(repository, file));
      portrait.set(file, `${ino} ${mtimeMs}`);
    }
    return portrait;
  };
  const before = await portray();
  const [endLsn] = await Promise.all([writeSegments(winning, 2), writeSegments(losing, 2)]);
  await expect.poll(() => parseLsn(winner.telling()?.storedLsn || "0/0"), patient).toBeGreaterThanOrEqual(endLsn);
  const failed = "select failed_count > 0 and last_failed_wal > coalesce(last_archived_wal, '') from pg_stat_archiver";
  await expect.poll(() => losing.sql("postgres", failed), patient).toBe("t");
  expect(loser.telling()?.trouble?.reason).toBe("WAL_CONFLICT");
  const now = await portray();
  expect([...before].filter(([file, was]) => now.get(file) !== was)).toEqual([]);
  const report = winner.telling();
  const [extent, ...more] = report ? extentsOf(report) : [];
  expect(more).toEqual([]);
  if (!extent) throw new Error("nothing is stored");
  expect(await expectSame(ours, winning, extent)).toBeGreaterThan(2);
});

test.each([
  ["a bucket with conditional puts", false],
  ["a bucket whose conditions are not kept", true],
])("in %s one stores its bytes, the other is told, and nothing is ever written twice", async (_, isVersioned) => {
  if (unavailable !== undefined) throw new Error(unavailable);
  const ceph = await openCephLab();
  const bucket = await newBucket(ceph);
  const client = ownerClient(ceph);
  await using _client = { [Symbol.asyncDispose]: () => Promise.resolve(client.destroy()) };
  const Bucket = bucket.bucket;
  // Ceph before 20 answers a conditional put there with a second version.
  const VersioningConfiguration = { Status: "Enabled" } as const;
  if (isVersioned) await client.send(new PutBucketVersioningCommand({ Bucket, VersioningConfiguration }));
  const place = { location: { case: "s3", value: bucket }, credential: credentialOf(ceph.owner) } as const;
  await using ours = await openArchiveLab(server, { place });
  const slot = isVersioned ? "versioned" : "plain";
  if (ours.archive.settings) ours.archive.settings.slot = slot;
  const theirs = archiveOf(ours, copy, slot);

  await beginSegment();
  await using one = watchArchive(ours, "one");
  await using other = watchArchive(theirs, "other");
  await Promise.all([receives(server, slot), receives(copy, slot)]);
  const [ourEnd, theirEnd] = await Promise.all([writeSegments(server), writeSegments(copy)]);
  const { winner, loser } = await outcome([
    { server, lab: ours, running: one, endLsn: ourEnd },
    { server: copy, lab: theirs, running: other, endLsn: theirEnd },
  ]);
  const name = segmentName(1, loser.endLsn - segmentBytes, segmentBytes);
  expect(loser.running.newest()?.trouble?.message).toContain(name);

  const [endLsn] = await Promise.all([writeSegments(winner.server, 2), writeSegments(loser.server, 2)]);
  await winner.running.stored(endLsn);
  expect(loser.running.newest()?.trouble?.reason).toBe("WAL_CONFLICT");
  // What is said to be stored is what its own server wrote.
  expect(loser.running.extents().filter((extent) => extent.endLsn >= loser.endLsn)).toEqual([]);
  const [extent, ...more] = winner.running.extents();
  expect(more).toEqual([]);
  if (!extent) throw new Error("nothing is stored");
  expect(await expectSame(ours, winner.server, extent)).toBeGreaterThan(2);
  const kept = `select restart_lsn from pg_replication_slots where slot_name = '${slot}'`;
  expect(parseLsn(await loser.server.sql("postgres", kept))).toBeLessThan(loser.endLsn);
  const { Versions = [] } = await client.send(new ListObjectVersionsCommand({ Bucket }));
  const counts = Map.groupBy(Versions, ({ Key = "" }) => Key);
  // A claim that gave way is put again at each attempt.
  const files = [...counts].filter(([key]) => key.includes("/wal/") && !key.includes("/digests/"));
  expect(files.filter(([, versions]) => versions.length > 1)).toEqual([]);
  expect([...counts.keys()].some((key) => key.includes(name))).toBe(true);
});
