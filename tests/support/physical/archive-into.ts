import { create } from "@bufbuild/protobuf";
import type { BackupPhysicalCommand } from "@coppice/proto/gen/coppice/agent/v1/backup_physical";
import { WalArchiveSchema } from "@coppice/proto/gen/coppice/agent/v1/wal_archive";
import { openLog } from "@coppice/proto/kit/log";
import { openBudget } from "../../../agent/src/budget.ts";
import { runArchive } from "../../../agent/src/wal/receive/archive.ts";
import type { PostgresServer } from "../postgres-servers.ts";

const log = openLog({ level: "error", name: "test" });

/** The archiving of a server's WAL, until it is disposed of. */
export interface RunningArchive extends AsyncDisposable {
  readonly systemIdentifier: string;
}

/**
 * Archives a server's WAL, by a slot named archive, into the repository that its backups by that command go to. `folder`
 * is where the agent remembers what it has stored.
 */
export async function archiveInto(
  server: PostgresServer,
  { connection, backup }: Pick<BackupPhysicalCommand, "connection" | "backup">,
  folder: string,
): Promise<RunningArchive> {
  const ending = new AbortController();
  const systemIdentifier = await server.sql("postgres", "select system_identifier from pg_control_system()");
  const running = runArchive({
    archive: create(WalArchiveSchema, {
      clusterId: "cls_test",
      clusterName: "shop",
      ...(connection ? { connection } : {}),
      ...(backup?.repository ? { repository: backup.repository } : {}),
      settings: { slot: "archive", maxAge: { seconds: 60n }, compressionLevel: 1 },
      systemIdentifier,
    }),
    secret: (id) => (id === "" ? undefined : server.password),
    folder,
    clientFiles: { home: "/nonexistent" },
    budget: openBudget(64 << 20),
    log,
    signal: ending.signal,
  });
  return {
    systemIdentifier,
    async [Symbol.asyncDispose]() {
      ending.abort();
      await running.ended;
    },
  };
}
