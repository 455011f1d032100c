import { eq, sql } from "drizzle-orm";
import type { Database } from "../../catalog.ts";
import { host, type LeftoverJson, type StrayArchiveJson } from "../../schema/host.ts";

/** An agent tells of each every ten seconds; one that is there and tells no more has taken it away. */
const silentMs = 60_000;

/** What a server still keeps WAL by for an archive that has ended. */
export interface Leftover extends LeftoverJson {
  readonly clusterId: string;
  readonly clusterName: string;
  readonly hostName: string;
  readonly since: Date;
}

/** Notes what a host's agent could not take from a server yet. */
export async function noteLeftover(
  db: Database,
  {
    hostId,
    clusterId,
    clusterName,
    leftover,
  }: Pick<StrayArchiveJson, "clusterId" | "clusterName"> & {
    readonly hostId: string;
    readonly leftover: LeftoverJson;
  },
  now: Date,
): Promise<void> {
  const [row] = await db.select({ strays: host.strayArchives }).from(host).where(eq(host.id, hostId));
  if (row === undefined) return;
  const isOf = (one: StrayArchiveJson) => one.clusterId === clusterId && one.leftover?.slot === leftover.slot;
  const known = row.strays.find(isOf);
  const lastTime = now.toISOString();
  const noted: StrayArchiveJson = {
    clusterId,
    clusterName,
    firstTime: known?.firstTime ?? lastTime,
    lastTime,
    leftover,
  };
  // What was taken away meanwhile is not kept for ever.
  const others = row.strays.filter((one) => !isOf(one) && (one.leftover === undefined || !isOver(one, now)));
  await db
    .update(host)
    .set({ strayArchives: [...others, noted] })
    .where(eq(host.id, hostId));
}

/** What is still there as far as is known: while the agent is away nobody takes anything. */
export async function listLeftovers(db: Database, now: Date): Promise<Leftover[]> {
  const rows = await db
    .select({ hostName: host.name, state: host.state, stateTime: host.stateTime, strays: host.strayArchives })
    .from(host)
    .where(sql`${host.strayArchives} <> '[]'::jsonb`);
  return rows.flatMap(({ hostName, state, stateTime, strays }) =>
    strays.flatMap((one) => {
      if (one.leftover === undefined) return [];
      const isBack = state === "CONNECTED" && now.getTime() - stateTime.getTime() > silentMs;
      if (isBack && isOver(one, now)) return [];
      const { clusterId, clusterName, firstTime, leftover } = one;
      return [{ ...leftover, clusterId, clusterName, hostName, since: new Date(firstTime) }];
    }),
  );
}

const isOver = ({ lastTime }: StrayArchiveJson, now: Date) => now.getTime() - Date.parse(lastTime) > silentMs;
