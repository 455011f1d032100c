import { fail } from "@coppice/proto/kit/failure";
import type { ClusterRecord } from "../catalog/cluster.ts";

/** The server of a cluster that was seen last. Errors: CLUSTER_NOT_CHECKED. */
export function presentIncarnation({
  row,
  incarnations,
  instances,
}: ClusterRecord): ClusterRecord["incarnations"][number] {
  const present = incarnations.toSorted((a, b) => b.lastSeenTime.getTime() - a.lastSeenTime.getTime())[0];
  if (present !== undefined) return present;
  const failed = instances.find(({ reachable }) => reachable === false);
  if (failed)
    return fail(
      "CLUSTER_NOT_CHECKED",
      `cluster ${row.name} was never seen, its last check has failed: ${failed.problem}`,
      { hint: `mend that, then check it again: coppice cluster check ${row.name}` },
    );
  return fail("CLUSTER_NOT_CHECKED", `nobody has looked at cluster ${row.name} yet`, {
    hint: `check it first: coppice cluster check ${row.name}`,
  });
}
