import { setTimeout as delay } from "node:timers/promises";
import type { BackupPhysicalResult } from "@coppice/proto/gen/coppice/agent/v1/backup_physical";
import { expect } from "vitest";
import { openPostgresServer, type PostgresServer } from "../postgres-servers.ts";
import { type ArchiveLab, type ArchiveLabOptions, openArchiveLab } from "../wal/archive-lab.ts";
import { receives, watchArchive, writeSegments } from "../wal/running-archive.ts";
import { openPhysicalLab } from "./physical-lab.ts";
import { openStandby } from "./standby.ts";

/** A primary whose WAL is archived, a standby of it, and backups that leave their WAL to that archive. */
export interface StandbyArchive extends AsyncDisposable {
  readonly primary: PostgresServer;
  readonly standby: PostgresServer;
  readonly archives: ArchiveLab;
  /** Writes a segment on the primary, and waits until it is archived. */
  archiveSegment(): Promise<void>;
  /** Backs up a server. As long as it waits for the primary to end a segment, the writing servers do: the primary alone when left out. */
  take(
    of: PostgresServer,
    how?: { walWaitSeconds?: number; writing?: PostgresServer[] },
  ): Promise<BackupPhysicalResult>;
  /** What the newest backup has said that it does. */
  phases(): string[];
  /** Keys of what backups have stored there. */
  stored(): Promise<string[]>;
}

/** Waits until a standby has replayed what its primary has written, and has a checkpoint of it to begin a backup with. */
export async function catchUp(standby: PostgresServer, primary: PostgresServer): Promise<void> {
  await primary.sql("postgres", "checkpoint");
  const end = await primary.sql("postgres", "select pg_current_wal_lsn()");
  const isThere = `select pg_last_wal_replay_lsn() >= '${end}'`;
  await expect.poll(() => standby.sql("postgres", isThere), { timeout: 60_000 }).toBe("t");
  await standby.sql("postgres", "checkpoint");
}

/** Opens one; the archive is as openArchiveLab takes it. */
export async function openStandbyArchive(major: number, place: ArchiveLabOptions = {}): Promise<StandbyArchive> {
  await using opened = new AsyncDisposableStack();
  const primary = opened.use(await openPostgresServer({ major, settings: { wal_keep_size: "1GB" } }));
  const archives = opened.use(await openArchiveLab(primary, place));
  const archiving = opened.use(watchArchive(archives));
  await receives(primary);
  const standby = opened.use(await openStandby(primary));
  const { clusterId } = archives.archive;
  const recipients = place.recipients ?? [];
  let count = 0;
  let phases: string[] = [];
  const archiveSegment = async () => archiving.stored(await writeSegments(primary));
  await archiveSegment();
  const all = opened.move();
  return {
    primary,
    standby,
    archives,
    archiveSegment,
    async take(of, { walWaitSeconds = 60, writing = [primary] } = {}) {
      await using lab = await openPhysicalLab(of);
      const walWait = { seconds: BigInt(walWaitSeconds) };
      const command = lab.command({ walEmbedded: false, walArchived: true, walWait }, recipients);
      const { backup } = command;
      count++;
      Object.assign(backup, { clusterId, backupId: `bkp_${count}`, folder: `20261122T000000Z_full_bkp_${count}` });
      const { repository } = backup;
      if (repository) command.walRepository = repository;
      const over = new AbortController();
      const taking = lab.take(command, { storage: archives.storage }).finally(() => over.abort());
      const write = async () => {
        for (; !over.signal.aborted; await delay(100))
          if (lab.progress.at(-1)?.awaitedLsn) for (const server of writing) await writeSegments(server);
      };
      const ended = write();
      await Promise.allSettled([taking, ended]);
      phases = lab.progress.map(({ phase }) => phase);
      const result = await taking;
      await ended;
      return result;
    },
    phases: () => [...new Set(phases)],
    async stored() {
      const objects = archives.storage.list(`${clusterId}/backups/`, AbortSignal.timeout(60_000));
      return (await Array.fromAsync(objects)).map(({ key }) => key);
    },
    [Symbol.asyncDispose]: () => all.disposeAsync(),
  };
}
