import { isFailure } from "@coppice/proto/kit/failure";
import type { Storage } from "../../storage/storage.ts";
import { findLeavings, removeLeavings } from "./leavings.ts";

const cleanUpMs = 60_000;
/** Who cancels does not wait for a repository that does not answer: what stays is named. */
const cancelledCleanUpMs = 5_000;

/**
 * Removes what a failed backup has stored below its `backupPrefix`; what it cannot remove it tells, for people to read.
 * Under a time of its own, because the operation's `signal` may be aborted already; a short one, if it is.
 */
export async function clearAway(
  storage: Storage,
  {
    prefix,
    operationId,
    onLeaving,
    signal: own,
  }: { prefix: string; operationId: string; onLeaving: (leaving: string) => void; signal?: AbortSignal },
): Promise<void> {
  const signal = AbortSignal.timeout(own?.aborted ? cancelledCleanUpMs : cleanUpMs);
  try {
    await removeLeavings(storage, await findLeavings(storage, { prefix, operationId, signal }), signal);
  } catch (error) {
    const why = isFailure(error) ? error.message : "the repository did not answer in time";
    onLeaving(`objects below ${prefix} in ${storage.name}: ${why}`);
  }
}
