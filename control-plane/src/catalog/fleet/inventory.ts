import { eq } from "drizzle-orm";
import type { Database } from "../catalog.ts";
import { foundCluster, host } from "../schema/host.ts";

/** What was found on a host replaces what was known of it. */
export async function replaceFoundClusters(
  tx: Database,
  hostId: string,
  rows: readonly Omit<typeof foundCluster.$inferInsert, "hostId">[],
): Promise<void> {
  // Two inventories of one host take turns.
  const [there] = await tx.select({ id: host.id }).from(host).where(eq(host.id, hostId)).for("no key update");
  if (there === undefined) return;
  await tx.delete(foundCluster).where(eq(foundCluster.hostId, hostId));
  if (rows.length === 0) return;
  await tx
    .insert(foundCluster)
    .values(rows.map((row) => ({ ...row, hostId })))
    .onConflictDoNothing();
}
