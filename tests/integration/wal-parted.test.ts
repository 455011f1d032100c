// One thing: a copy of a server that wrote on for itself, and whose WAL would go on from the original's by its positions.
import { cp, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { FilesystemLocationSchema } from "@coppice/proto/gen/coppice/common/v1/location";
import { WalMode } from "@coppice/proto/gen/coppice/common/v1/wal_archive";
import { parseLsn } from "@coppice/proto/kit/wal/lsn";
import { segmentName } from "@coppice/proto/kit/wal/segment";
import { expect, test } from "vitest";
import { walKey } from "../../agent/src/repository/layout.ts";
import { openCephLab } from "../support/ceph/lab.ts";
import { credentialOf, newBucket } from "../support/ceph/s3-place.ts";
import { makeAgeKey } from "../support/dumps/age-key.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";
import { type ArchiveLab, type ArchiveLabOptions, openArchiveLab } from "../support/wal/archive-lab.ts";
import { archiveOf, openCopy } from "../support/wal/copied-server.ts";
import { archiveBy, expectSame, patient, whenHanded, whenStored, writeSegments } from "../support/wal/push-lab.ts";
import { receives } from "../support/wal/running-archive.ts";

const size = 16n << 20n;

/** Waits until a server archives by a command. */
async function archivesBy(server: PostgresServer, command: string): Promise<void> {
  await expect.poll(() => server.sql("postgres", "show archive_command"), patient).toContain(command);
}

/** Somebody has the server throw away the WAL that it keeps. */
async function drain(server: PostgresServer): Promise<void> {
  const waiting = "select count(*) from pg_ls_archive_statusdir() where name like '%.ready'";
  await server.sql("postgres", "alter system set archive_command = 'true'");
  await server.sql("postgres", "select pg_reload_conf()");
  await expect.poll(() => server.sql("postgres", waiting), patient).toBe("0");
}

async function isArchived(lab: ArchiveLab, endLsn: bigint): Promise<boolean> {
  const key = walKey(lab.archive, segmentName(1, endLsn - size, size));
  return (await lab.storage.stat(key, AbortSignal.timeout(30_000))) !== undefined;
}

async function archiveSegment(lab: ArchiveLab, mode: WalMode, server: PostgresServer): Promise<bigint> {
  await using archiving = await archiveBy(lab, mode);
  await (mode === WalMode.PUSH ? whenHanded(archiving) : receives(server));
  const end = await writeSegments(server, 1);
  const { trouble } = await whenStored(archiving, end);
  expect(trouble).toBeUndefined();
  return end;
}

/** An archive of a server that has a copy, and of what the server wrote since; both are stopped. */
async function openParted(mode: WalMode, over: Readonly<Record<string, string>>, into: ArchiveLabOptions = {}) {
  const settings = { autovacuum: "off", ...over };
  await using stack = new AsyncDisposableStack();
  const server = stack.use(await openPostgresServer({ major: 18, settings }));
  const lab = stack.use(await openArchiveLab(server, into));
  await archiveSegment(lab, mode, server);
  // It would switch to another segment as it ends, and they would no longer be at the same position.
  await server.stop("immediate");
  const copy = stack.use(await openCopy(server, settings));
  await copy.sql("postgres", "insert into load values (-1, 'of the copy')");
  await copy.stop("immediate");
  await server.start();
  const endLsn = await archiveSegment(lab, mode, server);
  await server.stop("immediate");
  const held = stack.move();
  return {
    server,
    lab,
    copy,
    endLsn,
    ofCopy: archiveOf(lab, copy, "archive"),
    [Symbol.asyncDispose]: () => held.disposeAsync(),
  };
}

test("a copy that is pushed from is refused also when what was refused is thrown away, and the original goes on", async () => {
  await using parted = await openParted(WalMode.PUSH, { archive_mode: "on" });
  const { server, lab, copy, endLsn, ofCopy } = parted;
  await copy.start();
  {
    await using archiving = await archiveBy(ofCopy, WalMode.PUSH);
    const reason = () => archiving.telling()?.trouble?.reason;
    await writeSegments(copy, 1);
    await expect.poll(reason, patient).toBe("WAL_CONFLICT");
    // The second time with a hole before it.
    for (let time = 0; time < 2; time++) {
      await drain(copy);
      await archivesBy(copy, "coppice-wal");
      const failed = await copy.sql("postgres", "select failed_count from pg_stat_archiver");
      const late = await writeSegments(copy, 1);
      await expect
        .poll(() => copy.sql("postgres", "select failed_count from pg_stat_archiver"), patient)
        .not.toBe(failed);
      // Behind the archive's end by its position, or by what it holds.
      expect(reason()).toMatch(/^WAL_(?:CONFLICT|FOREIGN)$/);
      expect(await isArchived(lab, late)).toBe(false);
    }
    await copy.stop("immediate");
  }
  await server.start();
  // It keeps nothing of what is archived.
  await server.sql("postgres", "checkpoint");
  const end = await archiveSegment(lab, WalMode.PUSH, server);
  await expectSame(lab, server, { timeline: 1, startLsn: endLsn, endLsn: end }, size);
});

test("a copy whose WAL was thrown away before it is pushed from is refused", async () => {
  await using parted = await openParted(WalMode.PUSH, { archive_mode: "on" });
  const { lab, copy, ofCopy } = parted;
  await copy.start();
  await writeSegments(copy, 1);
  await drain(copy);
  await using archiving = await archiveBy(ofCopy, WalMode.PUSH);
  await whenHanded(archiving);
  const late = await writeSegments(copy, 1);
  await expect.poll(() => archiving.telling()?.trouble?.reason, patient).toBe("WAL_CONFLICT");
  expect(await isArchived(lab, late)).toBe(false);
});

test("a copy that is received, and has removed what would be compared, is refused", async () => {
  await using parted = await openParted(WalMode.STREAM, { wal_keep_size: "0" });
  const { lab, copy, ofCopy } = parted;
  await copy.start();
  await copy.sql("postgres", "select pg_drop_replication_slot('archive')");
  await writeSegments(copy, 1);
  for (const _ of [1, 2]) await copy.sql("postgres", "insert into load values (0, ''); checkpoint");
  await using archiving = await archiveBy(ofCopy, WalMode.STREAM, join(lab.folder, "other"));
  await receives(copy);
  const late = await writeSegments(copy, 1);
  await expect.poll(() => archiving.telling()?.trouble?.reason, patient).toBe("WAL_CONFLICT");
  expect(await isArchived(lab, late)).toBe(false);
});

/** Neither the server nor an agent has anything any more of what is archived. */
async function forget(lab: ArchiveLab, server: PostgresServer): Promise<void> {
  await server.sql("postgres", "select pg_drop_replication_slot(slot_name) from pg_replication_slots");
  for (const _ of [1, 2]) await server.sql("postgres", "insert into load values (0, ''); checkpoint");
  await rm(join(lab.folder, "state"), { recursive: true, force: true });
}

/** A bucket of its own. */
async function bucket(): Promise<ArchiveLabOptions["place"]> {
  const ceph = await openCephLab();
  return { location: { case: "s3", value: await newBucket(ceph) }, credential: credentialOf(ceph.owner) };
}

test.each([
  ["a folder, pushed", WalMode.PUSH, { archive_mode: "on" }, async () => ({})],
  ["a folder, received by a new slot", WalMode.STREAM, {}, async () => ({})],
  ["a bucket, pushed", WalMode.PUSH, { archive_mode: "on" }, async () => ({ place: await bucket() })],
] as const)(
  "an agent that has lost its folder tells server and copy apart in an encrypted archive in %s",
  async (_, mode, over, place) => {
    const { recipient } = await makeAgeKey();
    const into = { ...(await place()), recipients: [recipient] };
    await using parted = await openParted(mode, { wal_keep_size: "0", ...over }, into);
    const { server, lab, copy, ofCopy } = parted;
    await copy.start();
    await writeSegments(copy, 1);
    await drain(copy);
    await forget(lab, copy);
    {
      await using archiving = await archiveBy(ofCopy, mode);
      await (mode === WalMode.PUSH ? whenHanded(archiving) : receives(copy));
      const late = await writeSegments(copy, 1);
      const message = expect.stringContaining("are not of one history") as string;
      await expect.poll(() => archiving.telling()?.trouble, patient).toMatchObject({ reason: "WAL_CONFLICT", message });
      expect(await isArchived(lab, late)).toBe(false);
      await copy.stop("immediate");
    }
    await server.start();
    await forget(lab, server);
    expect(await isArchived(lab, await archiveSegment(lab, mode, server))).toBe(true);
  },
);

test("where nothing tells, because no links were kept, it is refused, and goes on in another repository", async () => {
  const settings = { autovacuum: "off", archive_mode: "on" };
  await using server = await openPostgresServer({ major: 18, settings });
  const { recipient } = await makeAgeKey();
  await using lab = await openArchiveLab(server, { recipients: [recipient] });
  await archiveSegment(lab, WalMode.PUSH, server);
  const repository = join(lab.folder, "repository");
  const claims = (await readdir(repository, { recursive: true })).filter((path) => path.includes(".sha256-"));
  expect(claims).not.toEqual([]);
  for (const claim of claims) await writeFile(join(repository, claim), "");
  await forget(lab, server);
  {
    await using archiving = await archiveBy(lab, WalMode.PUSH);
    await whenHanded(archiving);
    await writeSegments(server, 1);
    const told = { reason: "WAL_CONFLICT", hint: expect.stringContaining("--to REPOSITORY") as string };
    await expect.poll(() => archiving.telling()?.trouble, patient).toMatchObject(told);
  }
  // An archive of another repository has a folder of its own.
  await rm(join(lab.folder, "state"), { recursive: true });
  const value = create(FilesystemLocationSchema, { path: await mkdtemp(join(lab.folder, "other-")) });
  Object.assign(lab.archive.repository?.location ?? {}, { kind: { case: "filesystem", value } });
  await archiveSegment(lab, WalMode.PUSH, server);
});

test.each([
  ["pushed from", WalMode.PUSH, { archive_mode: "on" }],
  ["received", WalMode.STREAM, {}],
] as const)("a copy that is promoted and then %s is refused", async (_, mode, over) => {
  await using parted = await openParted(mode, over);
  const { lab, copy, ofCopy } = parted;
  await writeFile(join(copy.dataDir, "standby.signal"), "");
  await copy.start();
  await copy.sql("postgres", "select pg_promote(true, 60)");
  await using archiving = await archiveBy(ofCopy, mode);
  await writeSegments(copy, 2);
  await expect
    .poll(() => archiving.telling()?.trouble, patient)
    .toMatchObject({
      reason: "WAL_CONFLICT",
      message: expect.stringContaining("does not begin as the archived") as string,
    });
  const stored: string[] = [];
  for await (const { key } of lab.storage.list("", AbortSignal.timeout(30_000))) stored.push(key);
  expect(stored.filter((key) => /\/00000002[0-9A-F]{16}/.test(key))).toEqual([]);
});

test("a copy that goes on in a segment of which a part is archived is refused, also where that is encrypted", async () => {
  const settings = { autovacuum: "off", wal_keep_size: "1GB" };
  await using server = await openPostgresServer({ major: 18, settings });
  const { recipient } = await makeAgeKey();
  await using lab = await openArchiveLab(server, { maxAgeSeconds: 1, recipients: [recipient] });
  await archiveSegment(lab, WalMode.STREAM, server);
  await server.stop("fast");
  await using copy = await openCopy(server, settings);
  await server.start();
  {
    await using archiving = await archiveBy(lab, WalMode.STREAM);
    await server.sql("postgres", "insert into load values (1, 'of the server')");
    const endLsn = parseLsn(await server.sql("postgres", "select pg_current_wal_flush_lsn()"));
    await whenStored(archiving, endLsn);
    await server.stop("fast");
  }
  // Past the archive's end.
  await copy.sql("postgres", "insert into load select id, 'of the copy' from generate_series(1, 10000) id");
  await using archiving = await archiveBy(archiveOf(lab, copy, "archive"), WalMode.STREAM, join(lab.folder, "other"));
  await expect.poll(() => archiving.telling()?.trouble?.reason, patient).toBe("WAL_CONFLICT");
  expect(await isArchived(lab, await writeSegments(copy, 1))).toBe(false);
});

test("a machine that was set back with its agent is refused beyond a part that was archived meanwhile", async () => {
  const settings = { autovacuum: "off", wal_keep_size: "1GB" };
  await using server = await openPostgresServer({ major: 18, settings });
  await using lab = await openArchiveLab(server, { maxAgeSeconds: 1 });
  const flushed = async () => parseLsn(await server.sql("postgres", "select pg_current_wal_flush_lsn()"));
  await archiveSegment(lab, WalMode.STREAM, server);
  await server.stop("immediate");
  await using copy = await openCopy(server, settings);
  await copy.stop("immediate");
  const other = join(lab.folder, "other");
  await cp(join(lab.folder, "state"), join(other, "state"), { recursive: true });
  await server.start();
  {
    await using archiving = await archiveBy(lab, WalMode.STREAM);
    await server.sql("postgres", "insert into load select id, 'of the server' from generate_series(1, 500) id");
    await whenStored(archiving, await flushed());
  }
  await server.stop("immediate");
  await copy.start();
  await copy.sql("postgres", "insert into load select id, 'of the copy' from generate_series(1, 20000) id");
  await using archiving = await archiveBy(archiveOf(lab, copy, "archive"), WalMode.STREAM, other);
  await expect.poll(() => archiving.telling()?.trouble?.reason, patient).toBe("WAL_CONFLICT");
  expect(await isArchived(lab, await writeSegments(copy, 1))).toBe(false);
});
