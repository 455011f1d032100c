/** How long to wait between tries, in milliseconds. */
export interface Backoff {
  readonly baseMs: number;
  readonly capMs: number;
  /** A number in [0, 1), Math.random when left out. */
  readonly random?: () => number;
}

/**
 * Milliseconds to wait before try `attempt` (0 is the first repetition): anything between nothing and the doubling
 * bound ("full jitter", Exponential Backoff And Jitter, AWS Architecture Blog 2015), so that a fleet does not return
 * in step.
 */
export function backoffMs(attempt: number, { baseMs, capMs, random = Math.random }: Backoff): number {
  return random() * Math.min(capMs, baseMs * 2 ** attempt);
}
