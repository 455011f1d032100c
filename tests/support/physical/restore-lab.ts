import { execFile } from "node:child_process";
import { chmod, chown, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import type { BackupAddress } from "@coppice/proto/gen/coppice/agent/v1/repository_target";
import {
  type RestorePhysicalCommand,
  RestorePhysicalCommandSchema,
  type RestorePhysicalResult,
} from "@coppice/proto/gen/coppice/agent/v1/restore_physical";
import { RepositoryLocationSchema } from "@coppice/proto/gen/coppice/common/v1/location";
import type { RecoveryTargetSchema } from "@coppice/proto/gen/coppice/common/v1/recovery_target";
import type { PhysicalRestore } from "../../../agent/src/physical/restore/inspect.ts";
import { restorePhysical, type RestoreToDo } from "../../../agent/src/physical/restore/restore.ts";
import { openStorage } from "../../../agent/src/storage/open.ts";
import { freePort } from "../free-port.ts";
import type { PostgresServer } from "../postgres-servers.ts";

type Changes = Partial<
  Pick<RestoreToDo, "signal" | "restoreCommand" | "refusedWal" | "operationId" | "onProgress" | "onRestored">
> & {
  readonly identities?: string;
};

interface CommandChanges {
  readonly tablespaces?: { oid: number; location: string; named?: boolean }[];
  readonly target?: MessageInitShape<typeof RecoveryTargetSchema>;
  readonly replace?: boolean;
  readonly start?: boolean;
  readonly keepFailed?: boolean;
}

/** Places to restore a server's backups to, by the agent's own restore. */
export interface RestoreLab extends AsyncDisposable {
  /** Folder of the server's user; data directories lie in it. */
  readonly folder: string;
  readonly leavings: string[];
  /** Of that chain into the folder's data directory `name`, to be started on a port of its own. */
  command(name: string, chain: readonly BackupAddress[], changes?: CommandChanges): Promise<RestorePhysicalCommand>;
  restore(command: RestorePhysicalCommand, changes?: Changes): Promise<RestorePhysicalResult>;
  /** Does something with what a restore is planned with. */
  with<T>(
    command: RestorePhysicalCommand,
    work: (restore: PhysicalRestore) => Promise<T>,
    changes?: Changes,
  ): Promise<T>;
  /** Asks the server that was restored there. */
  sql(command: RestorePhysicalCommand, text: string): Promise<string>;
  /** Starts what lies in a data directory. */
  start(command: RestorePhysicalCommand): Promise<void>;
  /** Stops it, at once unless it is to shut down. */
  stop(command: RestorePhysicalCommand, mode?: "immediate" | "fast"): Promise<void>;
}

/** Opens a lab for the backups of a server; disposing of it stops what was restored. */
export async function openRestoreLab(server: PostgresServer, repository: string): Promise<RestoreLab> {
  const { owner, binDir } = server;
  const folder = await mkdtemp(join(tmpdir(), "coppice-restore-lab-"));
  await chmod(folder, 0o755);
  await chown(folder, owner.uid, owner.gid);
  const leavings: string[] = [];
  const started = new Set<RestorePhysicalCommand>();

  const asOwner = (program: string, args: readonly string[]) =>
    new Promise<string>((resolve, reject) => {
      const user =
        process.getuid?.() === 0 ? ["--reuid", owner.name, "--regid", String(owner.gid), "--init-groups"] : [];
      execFile(
        "setpriv",
        [...user, join(binDir, program), ...args],
        { cwd: "/", env: { PATH: "/usr/bin:/bin", LANG: "C.UTF-8" } },
        (error, stdout, stderr) => {
          if (error) reject(new Error(stderr.trim() || error.message));
          else resolve(stdout.replace(/\n$/, ""));
        },
      );
    });
  const stop: RestoreLab["stop"] = async (command, mode = "immediate") => {
    started.delete(command);
    await asOwner("pg_ctl", ["stop", "-s", "-m", mode, "-D", command.dataDirectory]);
  };

  const withRestore: RestoreLab["with"] = async (command, work, changes = {}) => {
    const signal = changes.signal ?? AbortSignal.timeout(120_000);
    const location = create(RepositoryLocationSchema, {
      kind: { case: "filesystem", value: { path: repository } },
    });
    await using storage = await openStorage(location, { operationId: "op_restore", signal });
    const backups = command.chain.map((address) => ({ storage, address, identities: changes.identities }));
    return await work({
      command,
      backups,
      restoreCommand: changes.restoreCommand,
      refusedWal: changes.refusedWal,
      operationId: changes.operationId ?? "op_restore",
      signal,
    });
  };

  return {
    folder,
    leavings,
    async command(name, chain, changes = {}) {
      return create(RestorePhysicalCommandSchema, {
        chain: [...chain],
        target: {},
        dataDirectory: join(folder, name),
        start: true,
        port: await freePort(),
        ...changes,
      });
    },
    with: withRestore,
    async restore(command, changes = {}) {
      return await withRestore(
        command,
        async (restore) => {
          const result = await restorePhysical({
            ...restore,
            onProgress: changes.onProgress ?? (() => {}),
            log: () => {},
            onLeaving: (leaving) => leavings.push(leaving),
            onRestored: changes.onRestored ?? (() => Promise.resolve()),
          });
          if (command.start) started.add(command);
          return result;
        },
        changes,
      );
    },
    sql: (command, text) =>
      asOwner("psql", [
        "-XqAt",
        "-v",
        "ON_ERROR_STOP=1",
        `--host=${server.socketDir}`,
        `--port=${command.port}`,
        `--username=${server.superuser}`,
        "--dbname=postgres",
        `--command=${text}`,
      ]),
    async start(command) {
      await asOwner("pg_ctl", ["start", "-s", "-w", "-l", `${command.dataDirectory}.log`, "-D", command.dataDirectory]);
      started.add(command);
    },
    stop,
    async [Symbol.asyncDispose]() {
      for (const command of started) await stop(command).catch(() => {});
      await rm(folder, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}
