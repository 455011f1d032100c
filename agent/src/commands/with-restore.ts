import type { RestoreDatabaseCommand } from "@coppice/proto/gen/coppice/agent/v1/restore_database";
import type { RestoreToPlan } from "../logical/plan.ts";
import type { CommandContext } from "./handler.ts";
import { required } from "./required.ts";
import { withStorage } from "./with-storage.ts";

/**
 * Does the work with what a restore is planned, done and settled with: password and identities opened, and the
 * repository where it is of a backup.
 */
export async function withRestore<T>(
  command: RestoreDatabaseCommand,
  context: CommandContext,
  work: (restore: RestoreToPlan) => Promise<T>,
): Promise<T> {
  const { secret, clientFiles: files, workFolder, signal } = context;
  const password = secret(required(command.connection, "connection").passwordSecret);
  const source = command.file ?? command.backup?.repository;
  const identities = secret(source?.identitySecret ?? "");
  const restore = { command, password, identities, files, workFolder, signal };
  if (command.file) return await work({ ...restore, storage: undefined });
  return await withStorage(command.backup?.repository, context, (storage) => work({ ...restore, storage }));
}
