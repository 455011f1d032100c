import type { BackupPhysicalCommand } from "@coppice/proto/gen/coppice/agent/v1/backup_physical";
import { readSetBack } from "../wal/set-back/set-back-mark.ts";
import { backupPhysical } from "../physical/backup/backup.ts";
import type { ParentRequest } from "../physical/backup/parent/read-parent.ts";
import type { CommandContext, Handler } from "./handler.ts";
import { required } from "./required.ts";
import { withStorage } from "./with-storage.ts";

/** Calls the work with the parent's repository open, where there is a parent. */
async function withParent<T>(
  { incremental, parent: address }: BackupPhysicalCommand,
  context: CommandContext,
  work: (parent: ParentRequest | undefined) => Promise<T>,
): Promise<T> {
  if (!incremental || !address) return await work(undefined);
  const identities = context.secret(address.repository?.identitySecret ?? "");
  return await withStorage(address.repository, context, (storage) => work({ address, storage, identities }));
}

/** Takes a physical backup of a cluster into a repository. */
export const backupPhysicalCommand: Handler<"backupPhysical"> = async (command, context) => {
  const {
    operationId,
    agentVersion,
    clientFiles: files,
    chainFolder,
    walFolder,
    signal,
    progress,
    log,
    leaving,
  } = context;
  const connection = required(command.connection, "connection");
  const password = context.secret(connection.passwordSecret);
  const address = required(command.backup, "backup");
  return await withParent(command, context, (parent) =>
    withStorage(address.repository, context, async (storage) => ({
      result: await backupPhysical({
        command,
        operationId,
        agentVersion,
        password,
        files,
        storage,
        parent,
        chainFolder,
        setBackTime: (of) => readSetBack(walFolder, of),
        signal,
        onProgress: progress,
        log,
        onLeaving: leaving,
      }),
    })),
  );
};
