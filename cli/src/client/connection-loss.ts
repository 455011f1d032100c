import { backoffMs } from "@coppice/proto/kit/backoff";
import type { Failure } from "@coppice/proto/kit/failure";
import { sleep } from "@coppice/proto/kit/sleep";

/** How a watch goes on when the control plane goes away. */
export interface WatchOptions {
  readonly signal: AbortSignal;
  /** Milliseconds without any answer after which it gives up; 2 minutes when left out. */
  readonly giveUpMs?: number;
  /** Told once each time that the connection is lost. */
  readonly onLost?: (failure: Failure) => void;
}

/** Counts what a watch hears and loses. */
export interface ConnectionLoss {
  /** Something came from the control plane. */
  readonly heard: () => void;
  /**
   * A call failed: waits a little, so that the caller may try again; throws the failure when it is not one that may
   * pass, or when nothing was heard for too long.
   */
  readonly lost: (failure: Failure) => Promise<void>;
}

/** Starts counting. */
export function countLosses({ signal, giveUpMs = 120_000, onLost }: WatchOptions): ConnectionLoss {
  let heardTime = Date.now();
  let losses = 0;
  return {
    heard: () => {
      heardTime = Date.now();
      losses = 0;
    },
    lost: async (failure) => {
      if (signal.aborted) throw signal.reason;
      const mayPass = failure.code === "unavailable" || failure.code === "deadline_exceeded";
      if (!mayPass || Date.now() - heardTime > giveUpMs) throw failure;
      if (losses === 0) onLost?.(failure);
      await sleep(250 + backoffMs(losses++, { baseMs: 250, capMs: 5000 }), signal);
    },
  };
}
