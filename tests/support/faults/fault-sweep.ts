import { type Failure, isFailure } from "@coppice/proto/kit/failure";
import type { Storage } from "../../../agent/src/storage/storage.ts";
import { openFaultStorage, type StorageCall, type StorageFault } from "./fault-storage.ts";

/** Where one run of an operation happens: a repository of its own, in the state that the operation finds. */
export interface SweptPlace extends AsyncDisposable {
  /** Without faults. */
  readonly storage: Storage;
}

/** How a run with a fault ended. */
export interface FaultyRun<P> {
  readonly place: P;
  readonly call: StorageCall;
  readonly fault: StorageFault;
  /** What the operation failed with. */
  readonly failure: Failure;
}

/** An operation on a repository, and what has to be true of it when the repository fails. */
export interface FaultSweep<P extends SweptPlace> {
  /** Makes the place of one run. */
  readonly open: () => Promise<P>;
  /** The operation; it throws when it has failed. */
  readonly run: (place: P, storage: Storage) => Promise<void>;
  /** What is to go wrong with a call of it, one run each. */
  readonly faults: (call: StorageCall) => readonly StorageFault[];
  /** Checks place and failure after a run that failed; what it throws is the sweep's finding. */
  readonly judge: (run: FaultyRun<P>) => Promise<void>;
  /** Where a fault may pass unnoticed, because the operation did without what was lost: checks that all is well then. */
  readonly judgeSuccess?: (run: Omit<FaultyRun<P>, "failure">) => Promise<void>;
  /** At most so many runs, chosen evenly; all without it. */
  readonly mostRuns?: number;
}

/** What a sweep has done and found. */
export interface SweepReport {
  readonly calls: readonly StorageCall[];
  readonly runs: number;
  /** One line for each run in which something was not as it has to be. */
  readonly findings: readonly string[];
}

/** Reasons that say nothing to who has to mend it. */
const unclear = ["INTERNAL"];

/**
 * Runs an operation once to count its calls of the storage, then once for each fault of each call, every time in a new
 * place. Each run has to end with a clear failure and never with success; what `judge` wants has to hold afterwards.
 */
export async function sweepFaults<P extends SweptPlace>(sweep: FaultSweep<P>): Promise<SweepReport> {
  const calls = await countCalls(sweep);
  const all = calls.flatMap((call) => sweep.faults(call).map((fault) => ({ call, fault })));
  const chosen = sample(all, sweep.mostRuns ?? all.length);
  const findings: string[] = [];
  for (const { call, fault } of chosen) {
    try {
      await runWith(sweep, call, fault);
    } catch (error) {
      const what = error instanceof Error ? error.message : String(error);
      findings.push(`${fault.is} at call ${call.number}, ${call.method} ${call.what}: ${what}`);
    }
  }
  return { calls, runs: chosen.length, findings };
}

async function countCalls<P extends SweptPlace>({ open, run }: FaultSweep<P>): Promise<readonly StorageCall[]> {
  await using place = await open();
  const counting = openFaultStorage(place.storage);
  await run(place, counting.storage);
  return counting.calls;
}

/** The first, the last, and as many between them, evenly. */
function sample<T>(all: readonly T[], most: number): readonly T[] {
  if (all.length <= most) return all;
  const step = (all.length - 1) / Math.max(1, most - 1);
  return Array.from({ length: most }, (_, index) => all[Math.round(index * step)]).filter((one) => one !== undefined);
}

async function runWith<P extends SweptPlace>(
  { open, run, judge, judgeSuccess }: FaultSweep<P>,
  call: StorageCall,
  fault: StorageFault,
): Promise<void> {
  await using place = await open();
  const faulty = openFaultStorage(place.storage, { call: call.number, fault });
  const failure = await run(place, faulty.storage).then(
    () => undefined,
    (error: unknown) => error ?? new Error("it failed with nothing"),
  );
  const met = faulty.calls[call.number - 1];
  if (!faulty.isHit || met?.method !== call.method) throw new Error("the calls are not those of the run before");
  if (failure === undefined) {
    if (!judgeSuccess) throw new Error("it succeeded");
    return await judgeSuccess({ place, call, fault });
  }
  if (!isFailure(failure)) throw new Error("it failed without a reason", { cause: failure });
  if (unclear.includes(failure.reason) || failure.message === "")
    throw new Error(`it failed unclearly: ${failure.reason}`);
  await judge({ place, call, fault, failure });
}
