import { openContentCheck } from "../logical/verify-content.ts";
import { openPhysicalCheck } from "../physical/verify/open-physical-check.ts";
import { verifyBackup } from "../repository/verify.ts";
import type { Handler } from "./handler.ts";
import { required } from "./required.ts";
import { withStorage } from "./with-storage.ts";

/** Re-reads every stored object of a backup, and on request looks into it. */
export const verifyBackupCommand: Handler<"verifyBackup"> = async ({ backup, content }, context) => {
  const address = required(backup, "backup");
  const { signal, progress: onProgress } = context;
  const identities = context.secret(address.repository?.identitySecret ?? "");
  return await withStorage(address.repository, context, (storage) =>
    verifyBackup(storage, address, {
      signal,
      onProgress,
      ...(content
        ? {
            openContent: async (manifest) =>
              openPhysicalCheck(manifest, { identities, signal }) ??
              (await openContentCheck(manifest, { identities, signal })),
          }
        : {}),
    }),
  );
};
