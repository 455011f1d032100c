import { create } from "@bufbuild/protobuf";
import { type WalReport, WalReportSchema } from "@coppice/proto/gen/coppice/agent/v1/wal_archive";
import { WalMode } from "@coppice/proto/gen/coppice/common/v1/wal_archive";
import { backoffMs } from "@coppice/proto/kit/backoff";
import { type Failure, failureToDetail, toFailure } from "@coppice/proto/kit/failure";
import { sleep } from "@coppice/proto/kit/sleep";
import type { Logger } from "pino";
import { slotOf } from "../wal/receive/slot-name.ts";
import { keyOf, type Withdrawal } from "./left-over.ts";

/** What is withdrawn with what. */
export interface WithdrawOptions {
  /** One attempt; fails while it cannot be done. */
  readonly withdraw: (one: Withdrawal, signal: AbortSignal) => Promise<void>;
  /** Called once there is nothing left of one. */
  readonly onDone: () => void;
  readonly log: Logger;
}

/** Withdraws what archives left on servers, until it is disposed. */
export interface WithdrawLeft extends AsyncDisposable {
  /** Ends what is not among these, and has come to its end when it resolves. */
  keep(left: readonly Withdrawal[]): Promise<void>;
  /** Begins with those that were not begun. */
  begin(left: readonly Withdrawal[]): void;
  /** Whether there is nothing left of it. */
  isDone(one: Withdrawal): boolean;
  /** What could not be withdrawn yet, each every ten seconds. */
  reports(): WalReport[];
  /** A new session has to be told once more. */
  repeat(): void;
}

const backoff = { baseMs: 1000, capMs: 60_000 };
const reportEveryMs = 10_000;

interface Work {
  readonly one: Withdrawal;
  readonly ending: AbortController;
  done: Promise<void>;
  isDone: boolean;
  trouble: Failure | undefined;
  toldMs: number;
}

/** Begins with nothing. */
export function openWithdrawLeft({ withdraw, onDone, log }: WithdrawOptions): WithdrawLeft {
  const works = new Map<string, Work>();

  async function run(work: Work): Promise<void> {
    const { one, ending } = work;
    const { signal } = ending;
    const about = { cluster: one.archive.clusterName, slot: slotOf(one.archive) };
    for (let attempt = 0; !signal.aborted; attempt++) {
      try {
        await withdraw(one, signal);
        log.info(about, "the server keeps nothing for an archive that has ended, any more");
        work.isDone = true;
        return onDone();
      } catch (error) {
        if (signal.aborted) return;
        const failure = toFailure(error);
        if (failure.reason !== work.trouble?.reason)
          log.error(
            { ...about, reason: failure.reason, ...(failure.reason === "INTERNAL" ? { err: error } : {}) },
            `the server may still keep WAL for what has ended, it is tried again: ${failure.message}`,
          );
        work.trouble = failure;
      }
      await sleep(backoffMs(attempt, backoff), signal).catch(() => undefined);
    }
  }
  async function end(key: string, work: Work): Promise<void> {
    works.delete(key);
    work.ending.abort();
    await work.done;
  }

  return {
    async keep(left) {
      const keys = new Set(left.map(keyOf));
      await Promise.all([...works].filter(([key]) => !keys.has(key)).map(([key, work]) => end(key, work)));
    },
    begin(left) {
      for (const one of left) {
        const key = keyOf(one);
        if (works.has(key)) continue;
        const ending = new AbortController();
        const work: Work = {
          one,
          ending,
          done: Promise.resolve(),
          isDone: false,
          trouble: undefined,
          toldMs: -Infinity,
        };
        works.set(key, work);
        work.done = run(work);
      }
    },
    isDone: (one) => works.get(keyOf(one))?.isDone === true,
    reports() {
      const nowMs = performance.now();
      return [...works.values()].flatMap((work) => {
        const { one, trouble, isDone } = work;
        if (trouble === undefined || isDone || nowMs - work.toldMs < reportEveryMs) return [];
        work.toldMs = nowMs;
        const { clusterId, clusterName, systemIdentifier, settings } = one.archive;
        return create(WalReportSchema, {
          clusterId,
          clusterName,
          systemIdentifier,
          leftover: {
            slot: slotOf(one.archive),
            isCommanded: settings?.mode === WalMode.PUSH,
            trouble: failureToDetail(trouble),
          },
        });
      });
    },
    repeat() {
      for (const work of works.values()) work.toldMs = -Infinity;
    },
    async [Symbol.asyncDispose]() {
      await Promise.all([...works].map(([key, work]) => end(key, work)));
    },
  };
}
