import type { ClusterDatabase } from "@coppice/proto/gen/coppice/control/v1/cluster";
import { isKeptDatabase } from "@coppice/proto/kit/repository/restore-names";
import { formatSize } from "@coppice/proto/kit/size";

/** Databases that restores have replaced, which take their room until somebody drops them. */
export function describeKept(databases: readonly Pick<ClusterDatabase, "name" | "sizeBytes">[]): string {
  const kept = databases.filter(({ name }) => isKeptDatabase(name));
  if (kept.length === 0) return "";
  const bytes = kept.reduce((sum, { sizeBytes }) => sum + (sizeBytes ?? 0n), 0n);
  const what = kept.length === 1 ? "1 database that a restore has" : `${kept.length} databases that restores have`;
  return `${what} replaced, ${formatSize(bytes)}: drop what nobody needs: ${kept.map(({ name }) => name).join(", ")}`;
}
