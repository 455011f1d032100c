/** What the agent hears of a server's archiver, by no clock that can be set back. */
export interface Heard {
  /** For how long nothing came that could have. */
  readonly quietMs: number;
  readonly isAnswering: boolean;
  /** Failures that the server had counted by then, with those of what the agent refused; undefined until they settle. */
  readonly failedCount: bigint | undefined;
}

/** Keeps that. */
export interface Hearing {
  /** From now on something can come. */
  begin(): void;
  /** Something came, and is answered by this. */
  answer(work: () => Promise<void>): Promise<void>;
  /** The server was asked for the failures that it has counted. */
  count(failed: bigint): void;
  heard(): Heard;
}

/** After the agent has answered, coppice-wal ends, or offers again, within a moment. */
const marginMs = 5_000;

/** Begins with nothing heard. */
export function openHearing(): Hearing {
  let lastMs = performance.now();
  let answering = 0;
  let counted: { readonly failed: bigint; readonly ms: number } | undefined;
  return {
    begin: () => void (lastMs = performance.now()),
    async answer(work) {
      answering++;
      try {
        await work();
      } finally {
        answering--;
        lastMs = performance.now();
      }
    },
    count(failed) {
      const isReset = counted !== undefined && failed < counted.failed;
      if (counted && counted.ms > lastMs + marginMs && answering === 0 && !isReset) return;
      counted = { failed, ms: performance.now() };
    },
    heard: () => ({
      quietMs: performance.now() - lastMs,
      isAnswering: answering > 0,
      failedCount: counted && counted.ms > lastMs + marginMs ? counted.failed : undefined,
    }),
  };
}
