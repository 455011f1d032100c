import type { ClusterInstanceRow, ClusterRecord } from "../catalog/cluster.ts";

/** The server that work on a cluster is done on: its primary, or the first where no check has told yet. */
export function primaryInstance({ row, instances }: ClusterRecord): ClusterInstanceRow {
  const instance = instances.find(({ role }) => role === "PRIMARY") ?? instances[0];
  if (instance === undefined) throw new Error(`cluster ${row.id} has no instance`);
  return instance;
}
