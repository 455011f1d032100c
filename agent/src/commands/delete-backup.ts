import { Failure, toFailure } from "@coppice/proto/kit/failure";
import { deleteBackup } from "../repository/delete.ts";
import type { Handler } from "./handler.ts";
import { required } from "./required.ts";
import { withStorage } from "./with-storage.ts";

/**
 * Deletes the objects of a backup, its manifest first. Once begun it is not given up half-way: a backup is whole or
 * gone, so that "cancelled" and "stopped" mean that it is whole; where it breaks off meanwhile, settling ends it.
 */
export const deleteBackupCommand: Handler<"deleteBackup"> = async ({ backup, keys }, context) => {
  const address = required(backup, "backup");
  return await withStorage(address.repository, context, async (storage) => {
    const { signal } = context;
    signal.throwIfAborted();
    let isBegun = false;
    try {
      const ownSignal = new AbortController().signal;
      return { result: await deleteBackup(storage, address, keys, ownSignal, () => (isBegun = true)) };
    } catch (error) {
      if (!isBegun || !signal.aborted) throw error;
      const message = `the deletion of ${address.backupId} broke off in the middle: ${toFailure(error).message}`;
      throw new Failure("OUTCOME_UNKNOWN", message, { cause: error });
    }
  });
};
