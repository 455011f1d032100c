// One thing: a server that was set back to an earlier state of its disk, and what is then no longer what it seems.
import { readdir, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { BackupKind } from "@coppice/proto/gen/coppice/common/v1/backup_kind";
import { WalMode } from "@coppice/proto/gen/coppice/common/v1/wal_archive";
import { parseLsn } from "@coppice/proto/kit/wal/lsn";
import { expect, test } from "vitest";
import { watchWalEnd } from "../../agent/src/wal/set-back/watch-wal-end.ts";
import { readSetBack } from "../../agent/src/wal/set-back/set-back-mark.ts";
import { makeAgeKey } from "../support/dumps/age-key.ts";
import { archiveInto } from "../support/physical/archive-into.ts";
import { openPhysicalLab, physicalContent } from "../support/physical/physical-lab.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";
import { runProgram } from "../support/run-program.ts";
import { openArchiveLab } from "../support/wal/archive-lab.ts";
import { archiveBy, patient, whenHanded, whenStored, writeSegments } from "../support/wal/push-lab.ts";

/** A copy of the server's disk as it is now; what it gives puts that copy in the disk's place. */
async function snapshot(server: PostgresServer): Promise<() => Promise<void>> {
  const copy = `${server.dataDir}.snapshot`;
  await server.stop("fast");
  const env = { PATH: "/usr/bin:/bin" };
  expect(await runProgram("cp", ["-a", server.dataDir, copy], { env })).toMatchObject({ code: 0 });
  await server.start();
  return async () => {
    await server.stop("fast");
    await rm(server.dataDir, { recursive: true });
    await rename(copy, server.dataDir);
    await server.start();
  };
}

test("the WAL of the future that it has lost is no backup's, and nothing builds on what was backed up of it", async () => {
  const key = await makeAgeKey();
  await using server = await openPostgresServer({ major: 18, settings: { summarize_wal: "on" } });
  await using lab = await openPhysicalLab(server);
  const systemIdentifier = await server.sql("postgres", "select system_identifier from pg_control_system()");
  const state = join(lab.walFolder, `cls_test_${systemIdentifier}_rep_test`);
  await server.sql("postgres", "select pg_create_physical_replication_slot('archive', true)");
  const setBack = await snapshot(server);
  // Encrypted: nobody here can look into it.
  const archived = () => {
    const given = lab.command({ walEmbedded: false, walArchived: true, walWait: { seconds: 5n } }, [key.recipient]);
    return Object.assign(given, { walRepository: given.backup.repository });
  };
  const parent = lab.command();
  let stop = 0n;
  {
    await using running = await archiveInto(server, archived(), state);
    await lab.take(archived());
    stop = parseLsn(physicalContent((await lab.take(parent)).manifest).stopLsn);
    const end = await writeSegments(server, 2);
    const folder = join(lab.repository, "cls_test/wal", running.systemIdentifier, "00000001/0000000100000000");
    const newest = (Number((end >> 24n) & 0xffn) - 1).toString(16).toUpperCase().padStart(8, "0");
    await expect.poll(() => readdir(folder), patient).toContain(`0000000100000000${newest}`);
  }
  await setBack();
  const command = archived();
  expect(await lab.take(command).catch((error: unknown) => error)).toMatchObject({
    reason: "WAL_FOREIGN",
    message: expect.stringMatching(/^the server's timeline 1 ends at .* and is archived up to /) as string,
  });
  expect(await readdir(lab.folderOf(command.backup)).catch(() => [])).toEqual([]);

  const place = { clusterId: "cls_test", systemIdentifier };
  expect(await readSetBack(lab.walFolder, place)).toBeUndefined();
  {
    await using _running = await archiveInto(server, archived(), state);
    await expect.poll(() => readSetBack(lab.walFolder, place), patient).toBeInstanceOf(Date);
  }
  // PostgreSQL itself would take the parent's manifest again from there on.
  expect(await writeSegments(server, 4)).toBeGreaterThan(stop);
  const incremental = (on: typeof parent) => Object.assign(lab.command(), { incremental: true, parent: on.backup });
  const full = incremental(parent);
  const { manifest } = await lab.take(full);
  expect(manifest?.kind).toBe(BackupKind.FULL);
  expect(physicalContent(manifest).fullReason).toMatch(/set back, and its parent bkp_\d+ was taken before$/);
  expect((await lab.take(incremental(full))).manifest?.kind).toBe(BackupKind.INCREMENTAL);
});

test("archiving by archive_command says so before anything is offered, and also while it runs", async () => {
  await using server = await openPostgresServer({ major: 15, settings: { archive_mode: "on" } });
  await using lab = await openArchiveLab(server);
  const setBack = await snapshot(server);
  {
    await using archiving = await archiveBy(lab, WalMode.PUSH);
    await whenHanded(archiving);
    await whenStored(archiving, await writeSegments(server, 2));
  }
  await setBack();
  await using archiving = await archiveBy(lab, WalMode.PUSH);
  await expect.poll(() => archiving.telling()?.trouble?.reason, patient).toBe("WAL_FOREIGN");
  await expect
    .poll(
      () =>
        stat(join(lab.folder, "state", "set-back")).then(
          () => true,
          () => false,
        ),
      patient,
    )
    .toBe(true);

  const look = watchWalEnd();
  look({ timeline: 1, lsn: 500n });
  look({ timeline: 1, lsn: 500n });
  expect(() => look({ timeline: 1, lsn: 499n })).toThrow("ends at 0/1F3, and is archived up to 0/1F4");
  expect(() => look({ timeline: 1, lsn: 100n })).toThrow("ends at 0/64");
  look({ timeline: 2, lsn: 499n });
  look({ timeline: 2, lsn: 600n });
});
