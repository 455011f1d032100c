import { create } from "@bufbuild/protobuf";
import { type ObjectProblem, VerifyBackupCommandSchema } from "@coppice/proto/gen/coppice/agent/v1/verify_backup";
import { BackupProblemSchema, VerifiedBackupSchema } from "@coppice/proto/gen/coppice/control/v1/operation";
import type { FailureDetail } from "@coppice/proto/gen/coppice/common/v1/failure";
import { Failure, failureToDetail } from "@coppice/proto/kit/failure";
import type { Reason } from "@coppice/proto/kit/reasons";
import type { CatalogChange } from "./catalog-change.ts";
import { defineKind, invalidAnswer, required } from "./kind.ts";
import { reachability } from "./reachability.ts";

/** Failures that mean that the stored bytes are not what they were, whether or not each was listed. */
const damage: readonly Reason[] = ["DIGEST_MISMATCH", "MANIFEST_MISSING", "MANIFEST_UNREADABLE", "OBJECT_MISSING"];

/** A verification. It has succeeded when every object was read and matched. */
export const verifyBackup = defineKind({
  spec: "verifyBackup",
  command: "verifyBackup",
  retriesAfterLoss: 2,
  settle: "repeat",
  mayLeave: undefined,
  isHeavy: true,
  references: ({ backup, repository, content, parents }) => ({
    backup: { backupId: backup, repositoryId: repository },
    chain: parents.map((backupId) => ({ backupId, repositoryId: repository })),
    purposes: ["read"],
    decrypts: content,
  }),
  plan: ({ content }, facts) =>
    create(VerifyBackupCommandSchema, {
      backup: required(facts.backup).address,
      content,
      parents: required(facts.chain).map(({ address }) => address),
    }),
  apply({ backup: backupId, repository: repositoryId, missingParents }, { result, failure }) {
    if (result?.objects === 0 && failure === undefined)
      return invalidAnswer("the agent verified a backup without objects");
    const problems = result?.problems ?? [];
    const [first] = problems;
    const wrong =
      failure ?? (first && failureToDetail(new Failure("DIGEST_MISMATCH", `${first.key}: ${first.message}`)));
    // The backup itself is whole then.
    const isBroken = wrong === undefined && result !== undefined && missingParents.length > 0;
    const found: FailureDetail | undefined = isBroken ? failureToDetail(brokenChain(backupId, missingParents)) : wrong;
    const isOf = (wanted: string) => (problem: ObjectProblem) => (problem.backupId || backupId) === wanted;
    const damaged = problems.filter(({ isUnread }) => !isUnread);
    const isDamaged =
      damaged.length > 0 || (problems.length === 0 && damage.some((reason) => reason === found?.reason));
    const copyOf = (id: string, problem: string): CatalogChange => ({
      is: "copyVerified",
      backupId: id,
      repositoryId,
      problem,
    });
    // A problem of a parent is its own; the backup that builds on it has no other bytes than before.
    const damageOf = (id: string): CatalogChange[] => {
      const own = damaged.find(isOf(id));
      if (own === undefined) return [];
      return [copyOf(id, id === backupId && problems.every(isOf(id)) ? required(found).message : own.message)];
    };
    const read = [...(result?.parents ?? []), backupId];
    return {
      ...(result && {
        result: {
          case: "verifiedBackup",
          value: create(VerifiedBackupSchema, {
            backup: backupId,
            objects: result.objects,
            bytes: result.bytes,
            problems: problems.map((problem) =>
              create(BackupProblemSchema, {
                key: problem.key,
                message: problem.message,
                affects: problem.affects,
                backup: problem.backupId || backupId,
              }),
            ),
            parents: result.parents,
          }),
        },
      }),
      failure: found,
      changes: [
        ...reachability({ repositoryId }, isDamaged ? undefined : found),
        // One that has failed confirms nothing; it says which bytes are damaged, and nothing of those that it could not read.
        ...(found === undefined ? read.map((id) => copyOf(id, "")) : read.flatMap(damageOf)),
        ...(isDamaged && problems.length === 0 ? [copyOf(backupId, required(found).message)] : []),
      ],
    };
  },
});

function brokenChain(backupId: string, missing: readonly string[]): Failure {
  return new Failure(
    "BACKUP_CHAIN_BROKEN",
    `${backupId} is whole, and it builds on ${missing.join(", ")}, which ${missing.length === 1 ? "is" : "are"} not in that repository: nothing can be restored from it`,
    { hint: "take a full backup, and restore from another one meanwhile: coppice backup list" },
  );
}
