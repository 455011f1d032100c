/** Name of the physical slot that keeps a cluster's WAL when it is streamed: the one that was given, or one of its own. */
export function slotName(given: string, clusterId: string): string {
  return given || `coppice_${clusterId.toLowerCase().replace(/[^a-z0-9_]/g, "_")}`;
}
