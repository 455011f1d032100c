import { fail } from "@coppice/proto/kit/failure";
import type { ClusterRecord } from "../catalog/cluster.ts";

/** The server of a cluster that was seen last. Errors: CLUSTER_NOT_CHECKED. */
export function presentIncarnation({ row, incarnations }: ClusterRecord): ClusterRecord["incarnations"][number] {
  const present = incarnations.toSorted((a, b) => b.lastSeenTime.getTime() - a.lastSeenTime.getTime())[0];
  if (present !== undefined) return present;
  return fail("CLUSTER_NOT_CHECKED", `nobody has looked at cluster ${row.name} yet`, {
    hint: `check it first: coppice cluster check ${row.name}`,
  });
}
