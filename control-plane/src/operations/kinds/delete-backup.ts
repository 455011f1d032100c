import { create } from "@bufbuild/protobuf";
import { DeleteBackupCommandSchema } from "@coppice/proto/gen/coppice/agent/v1/delete_backup";
import { DeletedBackupSchema } from "@coppice/proto/gen/coppice/control/v1/operation";
import { defineKind, required } from "./kind.ts";
import { reachability } from "./reachability.ts";

/** A deletion. From the moment it is sent, the manifest may be gone: the copy is no longer one to rely on. */
export const deleteBackup = defineKind({
  spec: "deleteBackup",
  command: "deleteBackup",
  retriesAfterLoss: 2,
  settle: "look",
  mayLeave: ({ backup }) => `objects of ${backup}, whose copy stays listed as being deleted`,
  isHeavy: false,
  references: ({ backup, repository }) => ({
    backup: { backupId: backup, repositoryId: repository },
    purposes: ["read", "delete"],
  }),
  plan(_spec, facts) {
    const { address, keys } = required(facts.backup);
    return create(DeleteBackupCommandSchema, { backup: address, keys: [...keys] });
  },
  begin: ({ backup, repository }) => [{ is: "copyDeleting", backupId: backup, repositoryId: repository }],
  apply({ backup: backupId, repository: repositoryId }, { result, failure }) {
    const changes = reachability({ repositoryId }, failure);
    if (result === undefined) return { failure, changes };
    return {
      result: {
        case: "deletedBackup",
        value: create(DeletedBackupSchema, { backup: backupId, objects: result.objects, stays: result.stays }),
      },
      failure,
      changes: failure ? changes : [...changes, { is: "copyDeleted", backupId, repositoryId }],
    };
  },
});
