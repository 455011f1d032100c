import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { clone, create } from "@bufbuild/protobuf";
import { type BackupDumpCommand, BackupDumpCommandSchema } from "@coppice/proto/gen/coppice/agent/v1/backup_dump";
import {
  type RestoreDatabaseCommand,
  RestoreDatabaseCommandSchema,
  RestoreMode,
} from "@coppice/proto/gen/coppice/agent/v1/restore_database";
import { type BackupAddress, BackupAddressSchema } from "@coppice/proto/gen/coppice/agent/v1/repository_target";
import { type Connection, ConnectionSchema } from "@coppice/proto/gen/coppice/common/v1/connection";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { type WorkDone, WorkDoneSchema } from "@coppice/proto/gen/coppice/common/v1/progress";
import { type DumpOptionsSchema } from "@coppice/proto/gen/coppice/common/v1/dump_options";
import { dumpCluster, type Dumped } from "../../../agent/src/logical/dump/dump.ts";
import type { RestoreRequest } from "../../../agent/src/logical/load-and-check.ts";
import { restoreDatabase } from "../../../agent/src/logical/restore.ts";
import type { ClientFiles } from "../../../agent/src/postgres/endpoint.ts";
import { openStorage } from "../../../agent/src/storage/open.ts";
import type { PostgresServer } from "../postgres-servers.ts";

/** A server and a repository folder, to run the agent's own dump and restore on. */
export interface DumpLab extends AsyncDisposable {
  readonly folder: string;
  readonly repository: string;
  readonly workFolder: string;
  readonly files: ClientFiles;
  readonly log: string[];
  /** How far dumps said that they were, all there were. */
  readonly progress: WorkDone[];
  /** The next backup's address; no two are the same. */
  address(recipients?: string[]): BackupAddress;
  dumpCommand(options?: MessageInitShape<typeof DumpOptionsSchema>, recipients?: string[]): BackupDumpCommand;
  dump(command: BackupDumpCommand, changes?: { signal?: AbortSignal; password?: string }): Promise<Dumped>;
  restoreCommand(dumped: Dumped, database: string, target: string, mode?: RestoreMode): RestoreDatabaseCommand;
  /** A restore as the agent would ask for it; `changes` win. */
  restore(
    command: RestoreDatabaseCommand,
    changes?: Partial<Omit<RestoreRequest, "command" | "storage">>,
  ): ReturnType<typeof restoreDatabase>;
}

/** The connection of a throwaway server: TCP on loopback, its superuser. */
export function connectionTo(server: PostgresServer): Connection {
  return create(ConnectionSchema, {
    endpoint: { address: { case: "host", value: "127.0.0.1" }, port: server.port, user: server.superuser },
    passwordSecret: "sec_test",
  });
}

/** Opens a lab on a running server; disposing of it leaves the server alone. */
export async function openDumpLab(server: PostgresServer): Promise<DumpLab> {
  const folder = await mkdtemp(join(tmpdir(), "coppice-dump-lab-"));
  const [repository, workFolder, home] = [join(folder, "repository"), join(folder, "work"), join(folder, "home")];
  for (const made of [repository, workFolder, home]) await mkdir(made);
  const files = { home };
  const log: string[] = [];
  const progress: WorkDone[] = [];
  const targets = new Map<Dumped, BackupAddress>();
  let counter = 0;
  const location = { kind: { case: "filesystem" as const, value: { path: repository } } };

  function address(recipients: string[] = []): BackupAddress {
    counter += 1;
    return create(BackupAddressSchema, {
      repository: { repositoryId: "rep_test", name: "main", location, recipients },
      clusterId: "cls_test",
      backupId: `bkp_${counter}`,
      folder: `20261121T000000Z_dump_bkp_${counter}`,
    });
  }

  const lab: DumpLab = {
    folder,
    repository,
    workFolder,
    files,
    log,
    progress,
    address,
    dumpCommand: (options = {}, recipients = []) =>
      create(BackupDumpCommandSchema, {
        connection: connectionTo(server),
        backup: address(recipients),
        clusterName: "shop",
        options,
      }),
    async dump(command, { signal = AbortSignal.timeout(60_000), password = server.password } = {}) {
      const operationId = `op_${command.backup?.backupId}`;
      await using storage = await openStorage(command.backup?.repository?.location ?? noRepository(), {
        operationId,
        signal,
      });
      const dumped = await dumpCluster({
        command,
        operationId,
        agentVersion: "0.0.0-test",
        password,
        files,
        storage,
        signal,
        onProgress: (work) => progress.push(clone(WorkDoneSchema, work)),
        log: (line) => log.push(line),
        onLeaving: (leaving) => log.push(`leaving: ${leaving}`),
      });
      if (command.backup) targets.set(dumped, command.backup);
      return dumped;
    },
    restoreCommand: (dumped, database, target, mode = RestoreMode.NEW) => {
      counter += 1;
      const backup = targets.get(dumped);
      return create(RestoreDatabaseCommandSchema, {
        ...(backup ? { backup: { ...backup, manifestSha256: dumped.result.manifestSha256 } } : {}),
        database,
        connection: connectionTo(server),
        targetDatabase: target,
        mode,
        stagedDatabase: `coppice_restore_${counter}`,
        keptDatabase: mode === RestoreMode.REPLACE ? `kept_${counter}` : "",
      });
    },
    async restore(command, changes = {}) {
      const signal = changes.signal ?? AbortSignal.timeout(60_000);
      const location = command.backup?.repository?.location;
      await using storage = location && (await openStorage(location, { operationId: "op_restore", signal }));
      return await restoreDatabase({
        command,
        password: server.password,
        identities: undefined,
        files,
        storage,
        workFolder,
        onProgress: () => {},
        log: (line) => log.push(line),
        onStaged: () => Promise.resolve(),
        onLeaving: (leaving) => log.push(`leaving: ${leaving}`),
        ...changes,
        signal,
      });
    },
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }),
  };
  return lab;
}

function noRepository(): never {
  throw new Error("the command has no repository");
}
