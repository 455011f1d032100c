import { restoreGlobals } from "../logical/globals/restore-globals.ts";
import type { Handler } from "./handler.ts";
import { required } from "./required.ts";
import { withStorage } from "./with-storage.ts";

/** Applies roles and tablespaces of a dump. */
export const restoreGlobalsCommand: Handler<"restoreGlobals"> = async (command, context) => {
  const { secret, clientFiles: files, signal } = context;
  const password = secret(required(command.connection, "connection").passwordSecret);
  const repository = required(command.backup, "backup").repository;
  const identities = secret(repository?.identitySecret ?? "");
  return await withStorage(repository, context, async (storage) => ({
    result: await restoreGlobals({ command, password, identities, files, storage, signal }),
  }));
};
