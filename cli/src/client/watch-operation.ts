import type { Client } from "@connectrpc/connect";
import type { Operation, OperationService } from "@coppice/proto/gen/coppice/control/v1/operation";
import { Failure } from "@coppice/proto/kit/failure";
import { linkSignals } from "@coppice/proto/kit/race";
import { hasEnded } from "./has-ended.ts";
import { callFailure } from "./call-failure.ts";
import { limitSilence } from "./silence.ts";
import { countLosses, type WatchOptions } from "./connection-loss.ts";

/**
 * Snapshots of an operation from now to its end, the terminal one last. When the control plane restarts, it goes on
 * where it was by the cursor; after `giveUpMs` without an answer it fails with CONTROL_PLANE_UNREACHABLE.
 */
export async function* watchOperation(
  { operations, address }: { readonly operations: Client<typeof OperationService>; readonly address: string },
  operation: string,
  options: WatchOptions,
): AsyncGenerator<Operation, void> {
  const losses = countLosses(options);
  let cursor = "";
  for (;;) {
    using call = linkSignals(options.signal);
    using silence = limitSilence(call);
    let trouble = new Failure("CONTROL_PLANE_UNREACHABLE", `the control plane at ${address} ended the stream`);
    try {
      const stream = operations.watchOperation({ operation, cursor }, { signal: call.signal, timeoutMs: 0 });
      for await (const snapshot of stream) {
        silence.heard();
        losses.heard();
        cursor = snapshot.cursor;
        yield snapshot;
        if (hasEnded(snapshot)) return;
      }
    } catch (error) {
      trouble = callFailure(error, address, call.signal);
    } finally {
      // Leaving the loop over a stream does not end the call.
      call.abort();
    }
    if (trouble.code !== "deadline_exceeded") await losses.lost(trouble);
    // After silence or a cut it is asked for: the end may have been missed, and silence alone says nothing.
    try {
      const snapshot = await operations.getOperation({ operation }, { timeoutMs: 10_000 });
      losses.heard();
      if (!hasEnded(snapshot)) continue;
      yield snapshot;
      return;
    } catch (error) {
      await losses.lost(callFailure(error, address, options.signal));
    }
  }
}
