import { create } from "@bufbuild/protobuf";
import { VerifyBackupCommandSchema } from "@coppice/proto/gen/coppice/agent/v1/verify_backup";
import { BackupProblemSchema, VerifiedBackupSchema } from "@coppice/proto/gen/coppice/control/v1/operation";
import type { FailureDetail } from "@coppice/proto/gen/coppice/common/v1/failure";
import { Failure, failureToDetail } from "@coppice/proto/kit/failure";
import type { Reason } from "@coppice/proto/kit/reasons";
import type { CatalogChange } from "./catalog-change.ts";
import { defineKind, invalidAnswer, required } from "./kind.ts";
import { reachability } from "./reachability.ts";

/** Failures that mean that the stored bytes are not what they were, whether or not each was listed. */
const damage: readonly Reason[] = ["DIGEST_MISMATCH", "MANIFEST_MISSING", "MANIFEST_UNREADABLE", "OBJECT_MISSING"];
const unread: Reason = "REPOSITORY_NOT_READABLE";

/** A verification. It has succeeded when every object was read and matched. */
export const verifyBackup = defineKind({
  spec: "verifyBackup",
  command: "verifyBackup",
  retriesAfterLoss: 2,
  settle: "repeat",
  mayLeave: undefined,
  isHeavy: true,
  references: ({ backup, repository, content }) => ({
    backup: { backupId: backup, repositoryId: repository },
    purposes: ["read"],
    decrypts: content,
  }),
  plan: ({ content }, facts) => create(VerifyBackupCommandSchema, { backup: required(facts.backup).address, content }),
  apply({ backup: backupId, repository: repositoryId }, { result, failure }) {
    if (result?.objects === 0 && failure === undefined)
      return invalidAnswer("the agent verified a backup without objects");
    const problems = result?.problems ?? [];
    const [first] = problems;
    const found: FailureDetail | undefined =
      failure ?? (first && failureToDetail(new Failure("DIGEST_MISMATCH", `${first.key}: ${first.message}`)));
    const verified: CatalogChange = { is: "copyVerified", backupId, repositoryId, problem: found?.message ?? "" };
    // What may not be read may be whole: the agent gives that reason only where nothing worse was found.
    const isUnread = found?.reason === unread;
    const isDamaged = !isUnread && (problems.length > 0 || damage.some((reason) => reason === found?.reason));
    return {
      ...(result && {
        result: {
          case: "verifiedBackup",
          value: create(VerifiedBackupSchema, {
            backup: backupId,
            objects: result.objects,
            bytes: result.bytes,
            problems: problems.map(({ key, message, affects }) =>
              create(BackupProblemSchema, { key, message, affects }),
            ),
          }),
        },
      }),
      failure: found,
      changes: [
        ...reachability({ repositoryId }, isDamaged ? undefined : found),
        // A verification that could not read says nothing about the bytes.
        ...(found === undefined || isDamaged ? [verified] : []),
      ],
    };
  },
});
