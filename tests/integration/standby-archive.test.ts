// Backups of standbys that leave their WAL to an archive: they count when that holds what the standby has received.
import { beforeEach, describe, expect, test } from "vitest";
import { servedDigest } from "../../agent/src/physical/backup/wal/served-digest.ts";
import { openReplication } from "../../agent/src/postgres/replication/open-replication.ts";
import { walPrefix } from "../../agent/src/repository/layout.ts";
import { openCephLab, whyNoCephLab } from "../support/ceph/lab.ts";
import { credentialOf, newBucket } from "../support/ceph/s3-place.ts";
import { makeAgeKey } from "../support/dumps/age-key.ts";
import { physicalContent } from "../support/physical/physical-lab.ts";
import { openStandby } from "../support/physical/standby.ts";
import { catchUp, openStandbyArchive } from "../support/physical/standby-archive.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";
import { replicationEndpoint } from "../support/replication/replication-endpoint.ts";
import { openCopy } from "../support/wal/copied-server.ts";
import { writeSegments } from "../support/wal/running-archive.ts";

const segmentBytes = 16n << 20n;
const foreign = {
  reason: "WAL_FOREIGN",
  message: expect.stringContaining("than the standby has received") as string,
  hint: expect.stringContaining("coppice cluster remove-instance shop HOST") as string,
};
const embed = expect.stringContaining("--wal embedded") as string;
const recipients = async (isEncrypted: boolean) => (isEncrypted ? [(await makeAgeKey()).recipient] : []);
/** Has a server go on without whom it follows, or follow again. */
const follow = async (standby: PostgresServer, primary?: PostgresServer) => {
  const place = primary && `host=127.0.0.1 port=${primary.port} user=${primary.superuser} password=${primary.password}`;
  await standby.sql("postgres", `alter system set primary_conninfo = '${place ?? ""}'`);
  await standby.sql("postgres", "select pg_reload_conf()");
  const receivers = "select count(*) from pg_stat_wal_receiver";
  await expect.poll(() => standby.sql("postgres", receivers), { timeout: 60_000 }).toBe(place ? "1" : "0");
};

/** A copy of a server that has gone its own way since, and a standby of that. */
async function openStranger(primary: PostgresServer) {
  await using opened = new AsyncDisposableStack();
  await primary.stop("fast");
  const copied = opened.use(await openCopy(primary, {}));
  await primary.start();
  const stranger = opened.use(await openStandby(copied));
  await copied.sql("postgres", "create table staging as select id from generate_series(1, 100) id");
  await catchUp(stranger, copied);
  const all = opened.move();
  return { copied, stranger, [Symbol.asyncDispose]: () => all.disposeAsync() };
}

describe.each([
  [15, true],
  [15, false],
  [18, true],
  [18, false],
])("PostgreSQL %i, encrypted %s", (major, isEncrypted) => {
  test("a backup of a standby counts, also while its replay is paused", async () => {
    await using lab = await openStandbyArchive(major, { recipients: await recipients(isEncrypted) });
    const { primary, standby } = lab;
    await catchUp(standby, primary);
    const { manifest } = await lab.take(standby);
    const content = physicalContent(manifest);
    expect(content).toMatchObject({ fromStandby: true, walEmbedded: false });
    expect(content.archivedWal.at(-1)?.encrypted).toBe(isEncrypted);
    await standby.sql("postgres", "select pg_wal_replay_pause()");
    await lab.archiveSegment();
    expect(physicalContent((await lab.take(standby)).manifest).fromStandby).toBe(true);
  });

  test("one of a copy's standby is refused at its end, or before it begins when a segment shows it, and leaves nothing", async () => {
    await using lab = await openStandbyArchive(major, { recipients: await recipients(isEncrypted) });
    const { primary } = lab;
    await using pair = await openStranger(primary);
    const { copied, stranger } = pair;
    await expect(lab.take(stranger, { writing: [primary, copied] })).rejects.toMatchObject(foreign);
    expect(lab.phases()).toContain("waiting for WAL");
    expect(await lab.stored()).toEqual([]);
    // The last that the copy has ended is archived, too.
    for (const _ of [1, 2, 3]) await lab.archiveSegment();
    await expect(lab.take(stranger)).rejects.toMatchObject(foreign);
    expect(lab.phases()).toEqual(["preflight"]);
  });
});

describe("PostgreSQL 18", () => {
  test.each([
    [false, { manifest: expect.anything() as unknown }],
    [true, { reason: "WAL_MISSING", message: expect.stringContaining("lacks WAL up to") as string, hint: embed }],
  ])(
    "a standby that is cut off has all that is compared with a clear archive; encrypted %s",
    async (isEncrypted, outcome) => {
      await using lab = await openStandbyArchive(18, { recipients: await recipients(isEncrypted) });
      const { primary, standby } = lab;
      await primary.sql("postgres", "create table t as select 1 as id");
      await catchUp(standby, primary);
      await follow(standby);
      await lab.archiveSegment();
      const taken = await lab.take(standby, { walWaitSeconds: 2 }).catch((error: unknown) => error);
      expect(taken).toMatchObject(outcome);
      await follow(standby, primary);
      await lab.take(standby);
    },
  );

  test("a part of a segment is compared as it was archived, where nobody ends the segment", async () => {
    await using lab = await openStandbyArchive(18, { recipients: await recipients(true), maxAgeSeconds: 1 });
    await lab.primary.sql("postgres", "create table t as select 1 as id");
    await catchUp(lab.standby, lab.primary);
    const { manifest } = await lab.take(lab.standby, { writing: [] });
    expect(physicalContent(manifest).archivedWal.at(-1)?.objects[0]?.key).toContain(".partial.");
  });

  test("encrypted WAL without a digest beside it is no proof, which is seen before anything is copied", async () => {
    await using lab = await openStandbyArchive(18, { recipients: await recipients(true) });
    const { storage, archive } = lab.archives;
    await catchUp(lab.standby, lab.primary);
    const signal = AbortSignal.timeout(60_000);
    const claims = await Array.fromAsync(storage.list(`${walPrefix(archive)}digests/`, signal));
    await storage.deleteMany(
      claims.map(({ key }) => key),
      signal,
    );
    await expect(lab.take(lab.standby)).rejects.toMatchObject({ reason: "IDENTITY_MISSING", hint: embed });
    expect(lab.phases()).toEqual(["preflight"]);
  });

  test("WAL that a server has removed, or left for another timeline, is not compared, and it is said what to do", async () => {
    await using server = await openPostgresServer({ major: 18, settings: { wal_keep_size: "0" } });
    const firstEnd = await writeSegments(server);
    const signal = AbortSignal.timeout(60_000);
    const ask = async (of: PostgresServer, endLsn: bigint) => {
      await using replication = await openReplication(replicationEndpoint(of), { signal });
      return await servedDigest(replication, { timeline: 1, endLsn, segmentBytes, waitMs: 5_000, signal });
    };
    expect(await ask(server, firstEnd)).toMatch(/^[0-9a-f]{64}$/);
    await writeSegments(server, 3);
    for (const _ of [1, 2]) await server.sql("postgres", "checkpoint");
    await expect(ask(server, firstEnd)).rejects.toMatchObject({ reason: "WAL_REMOVED", hint: embed });
    await using standby = await openStandby(server);
    const nextEnd = await writeSegments(server);
    await catchUp(standby, server);
    await standby.sql("postgres", "select pg_promote(true, 60)");
    await expect(ask(standby, nextEnd + segmentBytes)).rejects.toMatchObject({ reason: "TIMELINE_CHANGED" });
  });
});

describe("on S3", () => {
  const unavailable = whyNoCephLab();
  beforeEach(({ skip }) => {
    if (unavailable !== undefined) skip(unavailable);
  });

  test.each([false, true])("a standby's backup is told from a copy's; encrypted %s", async (isEncrypted) => {
    const ceph = await openCephLab();
    const location = { case: "s3" as const, value: await newBucket(ceph) };
    const place = { location, credential: credentialOf(ceph.owner) };
    await using lab = await openStandbyArchive(18, { place, recipients: await recipients(isEncrypted) });
    const { primary, standby } = lab;
    await catchUp(standby, primary);
    expect(physicalContent((await lab.take(standby)).manifest).fromStandby).toBe(true);
    const before = await lab.stored();
    await using pair = await openStranger(primary);
    await expect(lab.take(pair.stranger, { writing: [primary, pair.copied] })).rejects.toMatchObject(foreign);
    expect(await lab.stored()).toEqual(before);
  });
});
