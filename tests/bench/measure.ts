/** One side of a comparison: does its work once and gives what it took. What it only prepares it leaves out. */
export type Contestant = () => Promise<number>;

/** How often each contestant is run. */
export interface Turns {
  /** Runs that count. */
  readonly runs: number;
  /** Called after each run; number 0 is the warm-up, which does not count. */
  readonly onRun?: (contestant: string, number: number, value: number) => void;
}

/** The middle value, of an even number of values the mean of the two in the middle. Fails when there are none. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const half = sorted.length >> 1;
  const upper = sorted[half];
  const lower = sorted[sorted.length % 2 ? half : half - 1];
  if (upper === undefined || lower === undefined) throw new Error("no values have no median");
  return (lower + upper) / 2;
}

/**
 * Runs the contestants in turn (A, B, A, B …), so that what changes on the machine meanwhile meets all of them; each
 * one once before, to warm up. Gives the values of each in the order of its runs.
 */
export async function takeTurns<Name extends string>(
  contestants: Readonly<Record<Name, Contestant>>,
  { runs, onRun }: Turns,
): Promise<Record<Name, number[]>> {
  const names = Object.keys(contestants) as Name[];
  const taken = Object.fromEntries(names.map((name) => [name, [] as number[]])) as Record<Name, number[]>;
  for (let number = 0; number <= runs; number += 1) {
    for (const name of names) {
      const value = await contestants[name]();
      if (number > 0) taken[name].push(value);
      onRun?.(name, number, value);
    }
  }
  return taken;
}

/** Milliseconds that the work takes. */
export async function elapsedMs(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work();
  return performance.now() - start;
}
