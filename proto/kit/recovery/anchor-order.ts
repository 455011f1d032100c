import type { Anchor } from "./recovery-input.ts";

/**
 * Whether an anchor tells something that those read before it do not contradict. At the same position of a server that
 * stands still a later time says until when nothing was committed; an earlier one, by a clock that was set back, would
 * say that of what had been committed by the clock before.
 */
export function tellsOrder(known: readonly Anchor[], { timeline, lsn, timeUs }: Anchor): boolean {
  return !known.some((one) => one.timeline === timeline && one.lsn === lsn && one.timeUs > timeUs);
}
