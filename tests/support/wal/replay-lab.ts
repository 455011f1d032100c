import { chmod, chown, mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type {
  RestorePhysicalCommand,
  RestorePhysicalResult,
} from "@coppice/proto/gen/coppice/agent/v1/restore_physical";
import { openReplay } from "../../../agent/src/wal/fetch/open-replay.ts";
import { openPhysicalLab, type PhysicalLab } from "../physical/physical-lab.ts";
import { openRestoreLab, type RestoreLab } from "../physical/restore-lab.ts";
import { openPostgresServer, type PostgresServer } from "../postgres-servers.ts";
import { type ArchiveLab, openArchiveLab } from "./archive-lab.ts";
import { receives, type WatchedArchive, watchArchive } from "./running-archive.ts";

/** A server that is archived, its backups, and restores that replay what was archived. */
export interface ReplayLab extends AsyncDisposable {
  readonly server: PostgresServer;
  readonly archives: ArchiveLab;
  readonly archiving: WatchedArchive;
  readonly backups: PhysicalLab;
  readonly lab: RestoreLab;
  /** Restores, with archived WAL handed out meanwhile. */
  restore(command: RestorePhysicalCommand, isScratch?: boolean): Promise<RestorePhysicalResult>;
  /** Makes an empty folder of the server's user where the lab's restores lie, and gives its path. */
  makeFolder(name: string): Promise<string>;
}

/** Opens one; disposing of it ends everything in it. */
export async function openReplayLab(major: number): Promise<ReplayLab> {
  await using stack = new AsyncDisposableStack();
  const server = stack.use(await openPostgresServer({ major, settings: { wal_keep_size: "1GB", autovacuum: "off" } }));
  const archives = stack.use(await openArchiveLab(server));
  const archiving = stack.use(watchArchive(archives));
  await receives(server);
  const backups = stack.use(await openPhysicalLab(server));
  const lab = stack.use(await openRestoreLab(server, backups.repository));
  const workFolder = await mkdtemp(join(tmpdir(), "coppice-replay-"));
  stack.defer(() => rm(workFolder, { recursive: true, force: true }));
  await chmod(workFolder, 0o711);
  const all = stack.move();
  return {
    server,
    archives,
    archiving,
    backups,
    lab,
    async restore(command, isScratch = false) {
      await using replay = await openReplay({
        storage: archives.storage,
        workFolder,
        user: { ...server.owner, home: "/" },
        server: { dataDirectory: command.dataDirectory, isScratch },
        wal: { place: archives.archive, signal: AbortSignal.timeout(120_000) },
        onServed: () => {},
      });
      const { restoreCommand, refused } = replay;
      return await lab.restore(command, { restoreCommand, refusedWal: refused });
    },
    async makeFolder(name) {
      const folder = join(lab.folder, name);
      await mkdir(folder);
      await chown(folder, server.owner.uid, server.owner.gid);
      return folder;
    },
    [Symbol.asyncDispose]: () => all.disposeAsync(),
  };
}
