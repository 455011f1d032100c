import type { Sight } from "../../host/look.ts";
import { openDirectoryLock } from "./directory/lock.ts";
import { isOwnPlace } from "./directory/ownership.ts";
import { requireNoServer } from "./directory/see-directory.ts";
import type { PhysicalRestore } from "./inspect.ts";
import { ownUids } from "./owner.ts";
import { settleStaging } from "./settle.ts";
import { findStagings, type Staging } from "./staging.ts";

/** What other restores into the data directory have left that were cut off and never settled. */
export async function findRemains({
  command: { dataDirectory },
  operationId,
  signal,
}: Pick<PhysicalRestore, "command" | "operationId" | "signal">): Promise<Staging[]> {
  const stagings = await findStagings(dataDirectory, await ownUids(dataDirectory, signal));
  return stagings.filter(({ marker }) => marker.operationId !== operationId && marker.state !== "kept");
}

/** Whether it may lie in the place of the data directory itself. */
export function isInPlace({ marker }: Staging): boolean {
  return marker.state === "placing";
}

/** A server that runs there is for people to stop. */
async function requireStopped({ marker }: Staging): Promise<void> {
  if (await isOwnPlace(marker)) await requireNoServer(marker.dataDirectory);
}

/** Whether they can be taken back. Fails with RESTORE_RUNNING where one still is at work, or with SERVER_RUNNING. */
export async function seeRemains(remains: readonly Staging[]): Promise<Sight> {
  for (const each of remains) {
    await using _lock = await openDirectoryLock(each.marker.dataDirectory);
    await requireStopped(each);
  }
  const ids = remains.map(({ marker }) => marker.operationId).join(", ");
  const message = `what a restore has left there that was cut off (${ids}) is taken back first`;
  if (!remains.some(isInPlace)) return { message };
  return { message, warning: "what was there before it comes back, and is looked at then" };
}

/**
 * Settles what other restores have left in a data directory, whose lock is held: else the half of a cluster would stand in
 * the way, or what comes there be taken for theirs when they are settled later. Fails with SERVER_RUNNING.
 */
export async function settleRemains(restore: PhysicalRestore, log: (line: string) => void): Promise<void> {
  for (const each of await findRemains(restore)) {
    await requireStopped(each);
    const { removed, left } = await settleStaging(each.staging, { noted: undefined, signal: restore.signal });
    for (const what of removed) log(`removed of ${each.marker.operationId}: ${what}`);
    for (const what of left) log(`left of ${each.marker.operationId}: ${what}`);
  }
}
