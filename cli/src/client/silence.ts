import { Failure } from "@coppice/proto/kit/failure";

const limitMs = 60_000;

/**
 * Aborts a streaming call with DEADLINE_EXCEEDED when nothing was heard for a minute: a control plane that hangs would
 * else look like one with nothing to tell. (The library's own timeout outlives a stream that is not read to its end.)
 */
export function limitSilence(call: AbortController): Disposable & { readonly heard: () => void } {
  const expire = () => call.abort(new Failure("DEADLINE_EXCEEDED", "nothing was heard for a minute"));
  const timer = setTimeout(expire, limitMs);
  return { heard: () => void timer.refresh(), [Symbol.dispose]: () => clearTimeout(timer) };
}
