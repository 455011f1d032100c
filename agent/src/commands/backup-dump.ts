import { dumpCluster } from "../logical/dump/dump.ts";
import type { Handler } from "./handler.ts";
import { required } from "./required.ts";
import { withStorage } from "./with-storage.ts";

/** Takes a dump of a cluster into a repository. */
export const backupDumpCommand: Handler<"backupDump"> = async (command, context) => {
  const { operationId, agentVersion, clientFiles: files, signal, progress, log, leaving } = context;
  const connection = required(command.connection, "connection");
  const password = context.secret(connection.passwordSecret);
  return await withStorage(required(command.backup, "backup").repository, context, (storage) =>
    dumpCluster({
      command,
      operationId,
      agentVersion,
      password,
      files,
      storage,
      signal,
      onProgress: progress,
      log,
      onLeaving: leaving,
    }),
  );
};
