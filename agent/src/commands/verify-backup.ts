import { openContentCheck } from "../logical/verify-content.ts";
import { verifyChain } from "../physical/verify/verify-chain.ts";
import type { Handler } from "./handler.ts";
import { required } from "./required.ts";
import { withStorage } from "./with-storage.ts";

/** Re-reads every stored object of a backup and of those that it builds on, and on request looks into them. */
export const verifyBackupCommand: Handler<"verifyBackup"> = async ({ backup, parents, content }, context) => {
  const { signal, progress: onProgress } = context;
  return await verifyChain({
    addresses: [...parents, required(backup, "backup")],
    withStorage: (address, work) => withStorage(address.repository, context, work),
    ...(content && {
      content: {
        identitiesOf: ({ repository }) => context.secret(repository?.identitySecret ?? ""),
        openOther: (manifest, identities) => openContentCheck(manifest, { identities, signal }),
      },
    }),
    signal,
    onProgress,
  });
};
