import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { clone, create, type MessageInitShape } from "@bufbuild/protobuf";
import {
  type BackupPhysicalCommand,
  BackupPhysicalCommandSchema,
  type BackupPhysicalResult,
} from "@coppice/proto/gen/coppice/agent/v1/backup_physical";
import { type BackupAddress, BackupAddressSchema } from "@coppice/proto/gen/coppice/agent/v1/repository_target";
import type { BaseBackupOptionsSchema } from "@coppice/proto/gen/coppice/common/v1/base_backup_options";
import { RepositoryLocationSchema } from "@coppice/proto/gen/coppice/common/v1/location";
import { type WorkDone, WorkDoneSchema } from "@coppice/proto/gen/coppice/common/v1/progress";
import type { BackupManifest } from "@coppice/proto/gen/coppice/repository/v1/manifest";
import type { PhysicalContent } from "@coppice/proto/gen/coppice/repository/v1/physical_content";
import { backupPhysical } from "../../../agent/src/physical/backup/backup.ts";
import { openPhysicalCheck } from "../../../agent/src/physical/verify/open-physical-check.ts";
import { type Verified, verifyBackup } from "../../../agent/src/repository/verify.ts";
import { openStorage } from "../../../agent/src/storage/open.ts";
import type { Storage } from "../../../agent/src/storage/storage.ts";
import { readSetBack } from "../../../agent/src/wal/set-back/set-back-mark.ts";
import { connectionTo } from "../dumps/dump-lab.ts";
import type { PostgresServer } from "../postgres-servers.ts";

/** A server and a repository folder, to take the agent's own physical backups with. */
export interface PhysicalLab extends AsyncDisposable {
  readonly repository: string;
  /** Where clear manifests are kept. */
  readonly chainFolder: string;
  /** Where archives of the server's WAL remember what they have stored. */
  readonly walFolder: string;
  readonly log: string[];
  readonly leavings: string[];
  readonly progress: WorkDone[];
  /** Of a new backup, its WAL in it. */
  command(
    options?: MessageInitShape<typeof BaseBackupOptionsSchema>,
    recipients?: string[],
  ): BackupPhysicalCommand & { backup: BackupAddress };
  take(
    command: BackupPhysicalCommand,
    changes?: { signal?: AbortSignal; storage?: Storage; identities?: string },
  ): Promise<BackupPhysicalResult>;
  /** Digests and contents. */
  verify(address: BackupAddress, identities?: string): Promise<Verified>;
  storage(): Promise<Storage>;
  /** Folder of a backup. */
  folderOf(address: BackupAddress): string;
}

/** What a physical backup's manifest says of its content. */
export function physicalContent(manifest: BackupManifest | undefined): PhysicalContent {
  if (manifest?.content.case !== "physical") throw new Error("it is no physical backup");
  return manifest.content.value;
}

/** Opens a lab on a running server; disposing of it leaves the server alone. */
export async function openPhysicalLab(server: PostgresServer): Promise<PhysicalLab> {
  const folder = await mkdtemp(join(tmpdir(), "coppice-physical-lab-"));
  const repository = join(folder, "repository");
  const home = join(folder, "home");
  const chainFolder = join(folder, "chains");
  const walFolder = join(folder, "wal");
  for (const made of [repository, home]) await mkdir(made);
  const [log, leavings, progress]: [string[], string[], WorkDone[]] = [[], [], []];
  const location = { kind: { case: "filesystem" as const, value: { path: repository } } };
  let counter = 0;
  const storage = () =>
    openStorage(create(RepositoryLocationSchema, location), {
      operationId: "op_lab",
      signal: AbortSignal.timeout(120_000),
    });

  return {
    repository,
    chainFolder,
    walFolder,
    log,
    leavings,
    progress,
    storage,
    folderOf: (address) => join(repository, "cls_test/backups", address.folder),
    command(options = {}, recipients = []) {
      counter += 1;
      const backup = create(BackupAddressSchema, {
        repository: { repositoryId: "rep_test", name: "main", location, recipients },
        clusterId: "cls_test",
        backupId: `bkp_${counter}`,
        folder: `20261121T000000Z_full_bkp_${counter}`,
      });
      const command = create(BackupPhysicalCommandSchema, {
        connection: connectionTo(server),
        backup,
        clusterName: "shop",
        options: { walEmbedded: true, ...options },
      });
      return Object.assign(command, { backup });
    },
    async take(command, { signal = AbortSignal.timeout(120_000), storage: given, identities } = {}) {
      await using own = await storage();
      return await backupPhysical({
        command,
        operationId: "op_lab",
        agentVersion: "0.0.0-test",
        password: server.password,
        files: { home },
        storage: given ?? own,
        chainFolder,
        setBackTime: (of) => readSetBack(walFolder, of),
        parent: command.parent && { address: command.parent, storage: own, identities },
        signal,
        onProgress: (work) => progress.push(clone(WorkDoneSchema, work)),
        log: (line) => log.push(line),
        onLeaving: (leaving) => leavings.push(leaving),
      });
    },
    async verify(address, identities) {
      await using own = await storage();
      const signal = AbortSignal.timeout(120_000);
      return await verifyBackup(own, address, {
        signal,
        onProgress: () => {},
        openContent: async (manifest) =>
          openPhysicalCheck(manifest, { identities, signal }) ?? Promise.reject(new Error("it is no physical backup")),
      });
    },
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }),
  };
}
