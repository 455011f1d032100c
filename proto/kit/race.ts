/**
 * The promise's outcome, or a rejection with the signal's reason if that comes first. The promise itself goes on:
 * this is for waits that know nothing of signals, such as the next message of a stream.
 */
export async function raceSignal<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  const aborted = Promise.withResolvers<never>();
  const onAbort = () => aborted.reject(signal.reason);
  if (signal.aborted) onAbort();
  else signal.addEventListener("abort", onAbort, { once: true });
  try {
    return await Promise.race([aborted.promise, promise]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

/** A controller of its own that is also aborted, with the same reason, when one of the signals is; disposing unlinks it. */
export function linkSignals(...signals: readonly AbortSignal[]): AbortController & Disposable {
  const controller = new AbortController();
  const links = signals.map((signal) => ({ signal, follow: () => controller.abort(signal.reason) }));
  const unlink = () => {
    for (const { signal, follow } of links) signal.removeEventListener("abort", follow);
  };
  const alreadyAborted = signals.find((signal) => signal.aborted);
  if (alreadyAborted) controller.abort(alreadyAborted.reason);
  else for (const { signal, follow } of links) signal.addEventListener("abort", follow, { once: true });
  controller.signal.addEventListener("abort", unlink, { once: true });
  return Object.assign(controller, { [Symbol.dispose]: unlink });
}
