import { isFailure } from "@coppice/proto/kit/failure";
import type { Storage } from "../../storage/storage.ts";
import { findLeavings, removeLeavings } from "./leavings.ts";

const cleanUpMs = 60_000;

/**
 * Removes what a failed backup has stored below its `backupPrefix`; what it cannot remove it tells, for people to read.
 * Under a time of its own, because the operation's signal may be aborted already.
 */
export async function clearAway(
  storage: Storage,
  { prefix, operationId, onLeaving }: { prefix: string; operationId: string; onLeaving: (leaving: string) => void },
): Promise<void> {
  const signal = AbortSignal.timeout(cleanUpMs);
  try {
    await removeLeavings(storage, await findLeavings(storage, { prefix, operationId, signal }), signal);
  } catch (error) {
    const why = isFailure(error) ? error.message : "the repository did not answer in time";
    onLeaving(`objects below ${prefix} in ${storage.name}: ${why}`);
  }
}
