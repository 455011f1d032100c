import { deleteBackup } from "../repository/delete.ts";
import type { Handler } from "./handler.ts";
import { required } from "./required.ts";
import { withStorage } from "./with-storage.ts";

/**
 * Deletes the objects of a backup, its manifest first. Once begun it is not given up half-way: a backup is whole or
 * gone, so that "cancelled" and "stopped" mean that it is whole.
 */
export const deleteBackupCommand: Handler<"deleteBackup"> = async ({ backup, keys }, context) => {
  const address = required(backup, "backup");
  return await withStorage(address.repository, context, async (storage) => {
    context.signal.throwIfAborted();
    return { result: await deleteBackup(storage, address, keys, new AbortController().signal) };
  });
};
