// More waits for a repository that is away than the spool takes: nothing is streamed, and nothing waits for that.
import { rename } from "node:fs/promises";
import { join } from "node:path";
import { WalMode } from "@coppice/proto/gen/coppice/common/v1/wal_archive";
import { expect, test } from "vitest";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";
import { type ArchiveLab, openArchiveLab } from "../support/wal/archive-lab.ts";
import {
  archiveBy,
  type Archiving,
  expectSame,
  extentsOf,
  patient,
  whenStored,
  writeSegments,
} from "../support/wal/push-lab.ts";

const size = 16n << 20n;
const settings = { wal_keep_size: "2GB", max_wal_size: "4GB" };
const senderOf = (server: PostgresServer) =>
  server.sql("postgres", "select coalesce(max(active_pid), 0) from pg_replication_slots");

/** Has the repository go away, and more written than the spool takes; gives what has it come back. */
async function fillSpool(lab: ArchiveLab, server: PostgresServer, archiving: Archiving): Promise<() => Promise<void>> {
  await expect.poll(() => senderOf(server), patient).not.toBe("0");
  await whenStored(archiving, await writeSegments(server, 1));
  const repository = join(lab.folder, "repository");
  await rename(repository, `${repository}-away`);
  await writeSegments(server, 36);
  return () => rename(`${repository}-away`, repository);
}

async function expectWhole(lab: ArchiveLab, server: PostgresServer, archiving: Archiving): Promise<void> {
  const report = await whenStored(archiving, await writeSegments(server, 1));
  const [run, ...others] = extentsOf(report);
  expect(others).toEqual([]);
  expect(report.trouble).toBeUndefined();
  const { startLsn, endLsn } = run ?? { startLsn: 0n, endLsn: 0n };
  // Where it stopped and went on.
  await expectSame(lab, server, { timeline: 1, startLsn: startLsn + 30n * size, endLsn }, size);
}

test("a server shuts down in time, and what was not streamed is once it is back", async () => {
  await using server = await openPostgresServer({ major: 15, settings });
  await using lab = await openArchiveLab(server);
  await using archiving = await archiveBy(lab, WalMode.STREAM);
  const comeBack = await fillSpool(lab, server, archiving);
  const startedMs = performance.now();
  await server.stop("fast");
  expect(performance.now() - startedMs).toBeLessThan(60_000);
  await comeBack();
  await server.start();
  await expectWhole(lab, server, archiving);
}, 240_000);

test("a stream that was ended goes on where it was once there is room, by the same connection", async () => {
  await using server = await openPostgresServer({ major: 18, settings });
  await using lab = await openArchiveLab(server);
  await using archiving = await archiveBy(lab, WalMode.STREAM);
  await expect.poll(() => senderOf(server), patient).not.toBe("0");
  const sender = await senderOf(server);
  const comeBack = await fillSpool(lab, server, archiving);
  await expect.poll(() => senderOf(server), patient).toBe("0");
  expect(archiving.telling()?.trouble?.reason).toBe("REPOSITORY_UNREACHABLE");
  await comeBack();
  await expectWhole(lab, server, archiving);
  expect(await senderOf(server)).toBe(sender);
}, 240_000);
