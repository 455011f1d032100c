// From archive_command to the stream and back while one segment cannot be stored: nothing is given away before it is.
import { createHash } from "node:crypto";
import { mkdir, rename, rm, stat, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { WalMode } from "@coppice/proto/gen/coppice/common/v1/wal_archive";
import { formatLsn, parseLsn } from "@coppice/proto/kit/wal/lsn";
import { segmentName } from "@coppice/proto/kit/wal/segment";
import { expect, test } from "vitest";
import { walKey } from "../../agent/src/repository/layout.ts";
import { storeWal } from "../../agent/src/wal/store/store-wal.ts";
import { compressWal, readableOf } from "../../agent/src/wal/store/wal-codec.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";
import { type ArchiveLab, openArchiveLab } from "../support/wal/archive-lab.ts";
import {
  archiveBy,
  type Archiving,
  extentsOf,
  patient,
  socketOf,
  whenHanded,
  whenStored,
  writeSegments,
} from "../support/wal/push-lab.ts";

const size = 16n << 20n;
const settings = { archive_mode: "on", min_wal_size: "32MB", max_wal_size: "32MB" };
const show = (server: PostgresServer, name: string) => server.sql("postgres", `show ${name}`);

/** Takes a name, so that the segment cannot be stored until it is given back. */
async function take(lab: ArchiveLab, name: string): Promise<() => Promise<void>> {
  const other = Buffer.alloc(Number(size), "other bytes");
  await storeWal(lab.storage, {
    place: lab.archive,
    name,
    plainBytes: other.length,
    compressed: () => compressWal(readableOf(other), 1),
    sha256: async () => createHash("sha256").update(other).digest("hex"),
    recipients: [],
    known: () => undefined,
    signal: AbortSignal.timeout(30_000),
  });
  return () => rm(join(lab.folder, "repository", walKey(lab.archive, name)));
}

/** Waits until a segment is refused. */
async function whenRefused(archiving: Archiving): Promise<void> {
  await expect.poll(() => archiving.telling()?.trouble?.reason, patient).toBe("WAL_CONFLICT");
}

/** The same, and until what is behind it up to the position is in the repository. */
async function whenBehind(lab: ArchiveLab, archiving: Archiving, end: bigint): Promise<void> {
  await whenRefused(archiving);
  const key = walKey(lab.archive, segmentName(1, end - size, size));
  await expect.poll(() => lab.storage.stat(key, AbortSignal.timeout(30_000)), patient).toBeDefined();
}

/** What is not needed leaves pg_wal. */
async function cleanUp(server: PostgresServer): Promise<void> {
  for (const sql of ["checkpoint", "select pg_switch_wal() from pg_logical_emit_message(true, 'x', 'x')", "checkpoint"])
    await server.sql("postgres", sql);
}

test("a stream keeps its slot until all of it is stored before archive_command goes on alone", async () => {
  await using server = await openPostgresServer({ major: 18, settings: { ...settings, archive_command: "true" } });
  await using lab = await openArchiveLab(server);
  let missing: bigint;
  let giveBack: () => Promise<void>;
  {
    await using archiving = await archiveBy(lab, WalMode.STREAM);
    const active = "select count(*) from pg_replication_slots where active";
    await expect.poll(() => server.sql("postgres", active), patient).toBe("1");
    missing = await writeSegments(server, 1);
    await whenStored(archiving, missing);
    giveBack = await take(lab, segmentName(1, missing, size));
    await writeSegments(server, 4);
    await whenRefused(archiving);
  }
  {
    await using archiving = await archiveBy(lab, WalMode.PUSH);
    await expect.poll(() => archiving.telling()?.archiver?.isCommandSet, patient).toBe(true);
    await writeSegments(server, 2);
    await whenRefused(archiving);
    await cleanUp(server);
    expect(archiving.telling()?.archiver?.isHandingOver).toBe(true);
  }
  await giveBack();
  await using archiving = await archiveBy(lab, WalMode.PUSH);
  await whenHanded(archiving);
  await expect.poll(() => server.sql("postgres", "select count(*) from pg_replication_slots"), patient).toBe("0");
  expect(extentsOf(await whenStored(archiving, await writeSegments(server, 1)))).toHaveLength(1);
});

test("what stands in the way of archive_command is told beside a stream, and once that has ended", async () => {
  await using server = await openPostgresServer({ major: 18, settings });
  await using lab = await openArchiveLab(server);
  const report = (archiving: Archiving) => {
    const { archiver, trouble } = archiving.telling() ?? {};
    return [archiver?.isHandingOver, trouble?.reason];
  };
  {
    await using archiving = await archiveBy(lab, WalMode.STREAM);
    const active = "select count(*) from pg_replication_slots where active";
    await expect.poll(() => server.sql("postgres", active), patient).toBe("1");
    await whenStored(archiving, await writeSegments(server, 1));
  }
  const noFolder = dirname(socketOf(lab));
  await mkdir(dirname(noFolder), { mode: 0o711 });
  await writeFile(noFolder, "");
  {
    await using archiving = await archiveBy(lab, WalMode.PUSH);
    await expect.poll(() => report(archiving), patient).toEqual([true, "DATA_FOLDER_UNUSABLE"]);
  }
  await rm(noFolder);
  const repository = join(lab.folder, "repository");
  await rename(repository, `${repository}-away`);
  await using archiving = await archiveBy(lab, WalMode.PUSH);
  await expect.poll(() => report(archiving), patient).toEqual([false, "REPOSITORY_UNREACHABLE"]);
  await rename(`${repository}-away`, repository);
  await expect.poll(() => report(archiving), patient).toEqual([false, undefined]);
  expect(extentsOf(await whenStored(archiving, await writeSegments(server, 1)))).toHaveLength(1);
});

test("what waits for archive_command stays with the server until a slot keeps it, and what was stored ahead is no gap", async () => {
  await using server = await openPostgresServer({ major: 18, settings });
  await using lab = await openArchiveLab(server);
  let missing: bigint;
  let end: bigint;
  {
    await using archiving = await archiveBy(lab, WalMode.PUSH);
    await whenHanded(archiving);
    const stored = await writeSegments(server, 2);
    await whenStored(archiving, stored);
    // One is stored before anything is stored ahead.
    missing = stored + size;
  }
  const giveBack = await take(lab, segmentName(1, missing, size));
  await writeSegments(server, 5);
  {
    // What is stored ahead is on its way before the first one is refused.
    await using archiving = await archiveBy(lab, WalMode.PUSH);
    await whenHanded(archiving);
    end = await writeSegments(server, 1);
    await whenBehind(lab, archiving, missing + 2n * size);
  }
  {
    // An agent that was started again.
    await using archiving = await archiveBy(lab, WalMode.PUSH);
    await expect.poll(() => archiving.telling()?.storedLsn, patient).not.toBe("");
    const report = archiving.telling();
    expect(report?.storedLsn).toBe(formatLsn(missing));
    expect(report && extentsOf(report)).toEqual([
      { timeline: 1, startLsn: expect.any(BigInt) as bigint, endLsn: missing },
    ]);
  }
  const path = join(server.dataDir, "pg_wal", segmentName(1, missing, size));
  {
    await using _archiving = await archiveBy(lab, WalMode.STREAM);
    await expect.poll(() => show(server, "archive_command"), patient).toBe("true");
    const held = "select restart_lsn from pg_replication_slots where slot_name = 'archive'";
    expect(parseLsn(await server.sql("postgres", held))).toBeLessThanOrEqual(missing);
    await expect
      .poll(
        () => server.sql("postgres", "select count(*) from pg_ls_archive_statusdir() where name like '%.ready'"),
        patient,
      )
      .toBe("0");
    await cleanUp(server);
    expect((await stat(path)).size).toBe(Number(size));
  }
  await giveBack();
  await using archiving = await archiveBy(lab, WalMode.STREAM);
  expect(extentsOf(await whenStored(archiving, end))).toHaveLength(1);
});
