import type { Client } from "@connectrpc/connect";
import type { OperationLogLine, OperationService } from "@coppice/proto/gen/coppice/control/v1/operation";
import type { Failure } from "@coppice/proto/kit/failure";
import { linkSignals } from "@coppice/proto/kit/race";
import { callFailure } from "./call-failure.ts";
import { limitSilence } from "./silence.ts";
import { countLosses, type WatchOptions } from "./connection-loss.ts";

/**
 * Lines of an operation's log; with `follow` until the operation has ended. When the control plane restarts, it goes
 * on after the last line by the cursor; after `giveUpMs` without an answer it fails with CONTROL_PLANE_UNREACHABLE.
 */
export async function* watchLog(
  { operations, address }: { readonly operations: Client<typeof OperationService>; readonly address: string },
  operation: string,
  { follow, ...options }: WatchOptions & { readonly follow: boolean },
): AsyncGenerator<OperationLogLine, void> {
  const losses = countLosses(options);
  let cursor = "";
  for (;;) {
    using call = linkSignals(options.signal);
    using silence = limitSilence(call);
    let trouble: Failure;
    try {
      const request = { operation, cursor, follow };
      for await (const line of operations.watchLog(request, { signal: call.signal, timeoutMs: 0 })) {
        silence.heard();
        losses.heard();
        cursor = line.cursor;
        yield line;
      }
      return;
    } catch (error) {
      trouble = callFailure(error, address, call.signal);
    } finally {
      call.abort();
    }
    if (trouble.code !== "deadline_exceeded") await losses.lost(trouble);
    // Silence alone says nothing: somebody must answer before it is waited for again.
    try {
      await operations.getOperation({ operation }, { timeoutMs: 10_000 });
      losses.heard();
    } catch (error) {
      await losses.lost(callFailure(error, address, options.signal));
    }
  }
}
