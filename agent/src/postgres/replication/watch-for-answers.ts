import { formatDuration } from "@coppice/proto/kit/duration";
import { Failure, isFailure } from "@coppice/proto/kit/failure";
import { sleep } from "@coppice/proto/kit/sleep";
import { openConnection } from "../connect.ts";
import { formatAddress, type ResolvedEndpoint } from "../endpoint.ts";

const defaultUnansweredMs = 300_000;
const looks = 5;

/**
 * Knocks at a server whose replication connection says nothing, as one does that waits for a checkpoint, which takes
 * minutes or hours: however slow a sound server is, it answers somebody new, be it by a refusal. Rejects with
 * CLUSTER_UNREACHABLE when it has answered nobody for so long, or with the signal's reason.
 */
export async function watchForAnswers(
  endpoint: ResolvedEndpoint,
  { unansweredMs = defaultUnansweredMs, signal }: { readonly unansweredMs?: number; readonly signal: AbortSignal },
): Promise<never> {
  let answeredMs = performance.now();
  for (;;) {
    await sleep(unansweredMs / looks, signal);
    const problem = await knock(endpoint, { answerMs: unansweredMs / looks, signal });
    if (problem === undefined) answeredMs = performance.now();
    else if (performance.now() - answeredMs > unansweredMs)
      throw new Failure(
        "CLUSTER_UNREACHABLE",
        `the server at ${formatAddress(endpoint)} has not begun the backup and has answered nobody for ${formatDuration(unansweredMs)}: ${problem}`,
        { hint: "see in the server's log and on its host whether its processes, its disks and the network to it hang" },
      );
  }
}

/** Why there was no answer; undefined when there was one. */
async function knock(
  endpoint: ResolvedEndpoint,
  { answerMs, signal }: { readonly answerMs: number; readonly signal: AbortSignal },
): Promise<string | undefined> {
  try {
    await using _connection = await openConnection(endpoint, { connectTimeoutMs: answerMs, answerMs, signal });
    return undefined;
  } catch (error) {
    signal.throwIfAborted();
    // A server that has no connection left, or none for that role, lives.
    const isAnswer = !isFailure(error, "CLUSTER_UNREACHABLE") || error.metadata["sqlstate"] !== undefined;
    return isAnswer ? undefined : error.message;
  }
}
