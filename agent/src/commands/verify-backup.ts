import { verifyBackup } from "../repository/verify.ts";
import type { Handler } from "./handler.ts";
import { required } from "./required.ts";
import { withStorage } from "./with-storage.ts";

/** Re-reads every stored object of a backup. */
export const verifyBackupCommand: Handler<"verifyBackup"> = async ({ backup }, context) => {
  const address = required(backup, "backup");
  return await withStorage(address.repository, context, (storage) =>
    verifyBackup(storage, address, { signal: context.signal, onProgress: context.progress }),
  );
};
