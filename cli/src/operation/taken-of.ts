import type { Operation } from "@coppice/proto/gen/coppice/control/v1/operation";

/** Which server a backup is taken of, where that was asked for: a line, or none. */
export function describeTakenOf({ spec, hostName }: Pick<Operation, "spec" | "hostName">): string[] {
  if (spec.case !== "createBackup" && spec.case !== "createPhysicalBackup") return [];
  const { standby, standbyMissed } = spec.value;
  if (standbyMissed) return [`! taken of the primary, by the agent of ${hostName}: ${standbyMissed}`];
  return standby === undefined
    ? []
    : [`taken of ${standby ? "a standby" : "the primary"}, by the agent of ${hostName}`];
}
