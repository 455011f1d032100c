import { Readable } from "node:stream";
import { isFailure, toFailure } from "@coppice/proto/kit/failure";
import { sleep } from "@coppice/proto/kit/sleep";
import type { Logger } from "pino";
import { type WalAnchor, walAnchorKey, type WalPlace } from "../../repository/layout.ts";
import type { HeldStorage } from "../push/held-storage.ts";
import type { Storage } from "../../storage/storage.ts";

/** The newest anchors of an archive, and what of them is in the repository. */
export interface AnchorShelf {
  offer(anchor: WalAnchor): void;
  /** Stores what is offered, at a bounded rate, until it is disposed. What fails is tried again at the next look. */
  keepIn(held: KeptArchive, place: WalPlace, signal: AbortSignal): AsyncDisposable;
}

/** Where anchors go. */
export interface KeptArchive extends Pick<HeldStorage, "use"> {
  /**
   * Up to where the archive has the WAL of this very server; undefined until that is known. An anchor beyond it waits: it
   * may be that of a copy.
   */
  readonly reach: () => bigint | undefined;
}

/** While WAL moves on, and while the server is idle. */
const least = { movingMs: 60_000, idleMs: 600_000 };
const lookEveryMs = 2000;
const mostWaiting = 100;

/** Whether an anchor says enough more than the one that was stored last. */
export function isDue(
  next: WalAnchor,
  last: { readonly anchor: WalAnchor; readonly ageMs: number } | undefined,
): boolean {
  if (!last) return true;
  const { anchor, ageMs } = last;
  const isSame = anchor.timeline === next.timeline && anchor.lsn === next.lsn;
  return isSame ? anchor.timeUs !== next.timeUs && ageMs >= least.idleMs : ageMs >= least.movingMs;
}

/**
 * Opens a shelf. WAL itself says when transactions ended, but nothing of an hour in which none did: where a catalog is
 * lost, recovery to a time in such an hour goes by what is stored here.
 */
export function openAnchorShelf(log: Logger): AnchorShelf {
  let waiting: WalAnchor[] = [];
  let last: { readonly anchor: WalAnchor; readonly atMs: number } | undefined;

  async function store(storage: Storage, place: WalPlace, reach: bigint, signal: AbortSignal): Promise<void> {
    const anchor = waiting.findLast(({ lsn }) => lsn <= reach);
    if (!anchor || !isDue(anchor, last && { anchor: last.anchor, ageMs: performance.now() - last.atMs })) return;
    try {
      const body = Readable.from([Buffer.from("all that an anchor says is in its name\n")], { objectMode: false });
      await storage.put(walAnchorKey(place, anchor), body, { signal, ifAbsent: true });
    } catch (error) {
      if (!isFailure(error, "OBJECT_EXISTS")) throw error;
    }
    last = { anchor, atMs: performance.now() };
    waiting = waiting.slice(waiting.indexOf(anchor) + 1);
  }

  async function keep(held: KeptArchive, place: WalPlace, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        const reach = held.reach();
        if (reach !== undefined) await held.use((storage) => store(storage, place, reach, signal));
      } catch (error) {
        // The archive beside it tells what is wrong with the repository.
        if (!signal.aborted) log.debug({ reason: toFailure(error).reason }, "an anchor was not stored");
      }
      await sleep(lookEveryMs, signal).catch(() => undefined);
    }
  }

  return {
    offer(anchor) {
      waiting = [...waiting, anchor].slice(-mostWaiting);
    },
    keepIn(held, place, signal) {
      const ending = new AbortController();
      const kept = keep(held, place, AbortSignal.any([signal, ending.signal]));
      return {
        async [Symbol.asyncDispose]() {
          ending.abort();
          await kept;
        },
      };
    },
  };
}
