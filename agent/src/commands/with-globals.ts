import type { RestoreGlobalsCommand } from "@coppice/proto/gen/coppice/agent/v1/restore_globals";
import type { GlobalsRequest } from "../logical/globals/restore-globals.ts";
import type { CommandContext } from "./handler.ts";
import { required } from "./required.ts";
import { withStorage } from "./with-storage.ts";

/** Does the work with what globals are planned and restored with: password and identities opened, and the repository. */
export async function withGlobals<T>(
  command: RestoreGlobalsCommand,
  context: CommandContext,
  work: (globals: GlobalsRequest) => Promise<T>,
): Promise<T> {
  const { secret, clientFiles: files, signal } = context;
  const password = secret(required(command.connection, "connection").passwordSecret);
  const repository = required(command.backup, "backup").repository;
  const identities = secret(repository?.identitySecret ?? "");
  return await withStorage(repository, context, (storage) =>
    work({ command, password, identities, files, storage, signal }),
  );
}
