import { create } from "@bufbuild/protobuf";
import type { RestoreSelection } from "@coppice/proto/gen/coppice/common/v1/restore_selection";
import { type CreateRestoreSpec, CreateRestoreSpecSchema } from "@coppice/proto/gen/coppice/control/v1/operation";
import { formatKeptDatabase, formatStagedDatabase } from "@coppice/proto/kit/repository/restore-names";

/** A restore of one database, resolved. */
export interface DatabaseRestore {
  readonly operationId: string;
  readonly from:
    | { readonly backup: string; readonly repository: string; readonly cluster: string }
    | { readonly file: string; readonly identitySecret: string };
  /** Name in the backup. */
  readonly database: string;
  readonly target: { readonly id: string; readonly name: string };
  readonly targetDatabase: string;
  readonly mode: "new" | "replace" | "into";
  readonly jobs: number;
  readonly selection: RestoreSelection | undefined;
}

/** The spec of that restore, with the names that are made for it. */
export function restoreSpec(restore: DatabaseRestore, now: Date): CreateRestoreSpec {
  const { operationId, from, database, target, targetDatabase, mode, jobs, selection } = restore;
  return create(CreateRestoreSpecSchema, {
    ...from,
    database,
    targetCluster: target.id,
    targetClusterName: target.name,
    targetDatabase,
    replace: mode === "replace",
    into: mode === "into",
    jobs: jobs || 1,
    keptDatabase: mode === "replace" ? formatKeptDatabase(targetDatabase, now) : "",
    stagedDatabase: formatStagedDatabase(operationId),
    ...(selection ? { selection } : {}),
  });
}

/** Of two restores of one database into one cluster the second is refused while the first has not ended. */
export function exclusiveKeyOf({
  targetCluster,
  targetDatabase,
}: Pick<CreateRestoreSpec, "targetCluster" | "targetDatabase">): string {
  return `restore ${targetCluster} ${targetDatabase}`;
}
