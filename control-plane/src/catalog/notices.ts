import type { Catalog } from "./catalog.ts";

/** Channels of the catalog: the payload is the id of what changed, and never more. */
export type Channel =
  /** An operation changed. */
  | "coppice_operation"
  /** There is something to do for the agent of a host. */
  | "coppice_agent"
  /** A host was removed or its session replaced. */
  | "coppice_host";

/** Waits for something to happen to one id. */
export interface Subscription extends Disposable {
  /**
   * Resolves when a notice came since the last call, or after `ms`: notices may be lost with a connection, so the
   * pause is the safety net. Rejects with the signal's reason.
   */
  next(ms: number, signal: AbortSignal): Promise<void>;
}

/** The notices of one channel, listened to once and handed to any number of subscribers. */
export interface Notices extends AsyncDisposable {
  subscribe(id: string): Subscription;
}

/** Listens to a channel. What happens after this has resolved is not missed. */
export async function openNotices(catalog: Catalog, channel: Channel): Promise<Notices> {
  const wakes = new Map<string, Set<() => void>>();
  const listening = await catalog.listen(channel, (id) => {
    for (const wake of wakes.get(id) ?? []) wake();
  });
  return {
    subscribe(id) {
      let hasNotice = false;
      let waiting: PromiseWithResolvers<void> | undefined;
      const wake = () => {
        hasNotice = true;
        waiting?.resolve();
      };
      const others = wakes.get(id) ?? new Set();
      wakes.set(id, others.add(wake));
      return {
        async next(ms, signal) {
          signal.throwIfAborted();
          if (!hasNotice) {
            const wait = Promise.withResolvers<void>();
            waiting = wait;
            const timer = setTimeout(wait.resolve, ms);
            const abort = () => wait.reject(signal.reason);
            signal.addEventListener("abort", abort, { once: true });
            try {
              await wait.promise;
            } finally {
              waiting = undefined;
              clearTimeout(timer);
              signal.removeEventListener("abort", abort);
            }
          }
          hasNotice = false;
        },
        [Symbol.dispose]() {
          others.delete(wake);
          if (others.size === 0) wakes.delete(id);
        },
      };
    },
    [Symbol.asyncDispose]: () => listening[Symbol.asyncDispose](),
  };
}
