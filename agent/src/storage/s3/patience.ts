/** How long requests may take and how often they are repeated. */
export interface Patience {
  /** For a connection to come about, in milliseconds. */
  readonly connectMs: number;
  /** For anything to be heard on a connection. */
  readonly idleMs: number;
  /** No repetition begins after so long. */
  readonly giveUpMs: number;
  /** What a server may take longer to put the parts of an upload together. */
  readonly completeMs: number;
  /** Bytes a second below which a whole request counts as hanging. */
  readonly slowestBytesPerSecond: number;
  /** Bounds of the wait between repetitions. */
  readonly backoff: { readonly baseMs: number; readonly capMs: number };
}

/** For stores in a network that works. */
export const usualPatience: Patience = {
  connectMs: 5_000,
  idleMs: 20_000,
  giveUpMs: 60_000,
  completeMs: 300_000,
  slowestBytesPerSecond: 64 << 10,
  backoff: { baseMs: 200, capMs: 8_000 },
};
