/** Bytes taken out of a budget; disposing gives them back, and its slabs with them. */
export interface Lease extends Disposable {
  readonly bytes: number;
  /** An empty buffer of `slabBytes`; at most `bytes / slabBytes` of them. Not to be touched after the disposal. */
  slab(): Buffer;
  /**
   * While at rest it keeps its bytes and they do not count, so that who waits long for others holds up nobody. When they
   * count again, all hold more than the budget until enough came back, by no more than what was at rest.
   */
  rest(isAtRest: boolean): void;
}

/** Bounds the memory that the buffers of a process hold together, leases at rest aside. */
export interface ByteBudget {
  /** Waits, first come first served, until so many bytes (at most all) are free. Rejects with the signal's reason. */
  lease(bytes: number, signal: AbortSignal): Promise<Lease>;
}

/** What the buffers of an agent may hold, leases at rest aside: two of the largest parts, and an agent below 200 MB. */
export const usualBudgetBytes = 112 << 20;

/** Size of one buffer; leases are rounded up to it. */
export const slabBytes = 1 << 20;

interface Waiting {
  readonly bytes: number;
  readonly grant: () => void;
}

/**
 * Opens a budget of so many bytes. Buffers are used again, because freed ones stay with the process until its garbage
 * is collected and the bound would not hold. Who holds one lease must not wait for a second one.
 */
export function openBudget(totalBytes: number): ByteBudget {
  let heldBytes = 0;
  // Those at rest left out.
  let countedBytes = 0;
  const slabs: Buffer[] = [];
  const waiting: Waiting[] = [];
  const grantNext = () => {
    for (let next = waiting[0]; next && countedBytes + next.bytes <= totalBytes; next = waiting[0]) {
      waiting.shift();
      heldBytes += next.bytes;
      countedBytes += next.bytes;
      next.grant();
    }
  };
  const takeBack = (bytes: number, used: readonly Buffer[]) => {
    heldBytes -= bytes;
    slabs.push(...used);
    // What was held beyond the budget may go, and all of it when nobody is at work.
    const spareBytes = heldBytes === 0 ? 0 : Math.max(0, totalBytes - heldBytes);
    slabs.length = Math.min(slabs.length, Math.floor(spareBytes / slabBytes));
  };

  return {
    async lease(wanted, signal) {
      signal.throwIfAborted();
      const bytes = Math.ceil(wanted / slabBytes) * slabBytes;
      if (bytes > totalBytes) throw new RangeError(`${bytes} bytes are more than the budget of ${totalBytes}`);
      await new Promise<void>((resolve, reject) => {
        const one: Waiting = {
          bytes,
          grant: () => {
            signal.removeEventListener("abort", onAbort);
            resolve();
          },
        };
        const onAbort = () => {
          waiting.splice(waiting.indexOf(one), 1);
          reject(signal.reason);
          grantNext();
        };
        signal.addEventListener("abort", onAbort, { once: true });
        waiting.push(one);
        grantNext();
      });
      const used: Buffer[] = [];
      let isOut = true;
      let counted = bytes;
      const count = (from: number) => {
        countedBytes += from - counted;
        counted = from;
        grantNext();
      };
      return {
        bytes,
        slab() {
          if (!isOut || used.length * slabBytes >= bytes) throw new RangeError("the lease has no further buffer");
          const slab = slabs.pop() ?? Buffer.allocUnsafeSlow(slabBytes);
          used.push(slab);
          return slab;
        },
        rest(isAtRest) {
          if (isOut) count(isAtRest ? 0 : bytes);
        },
        [Symbol.dispose]() {
          if (!isOut) return;
          isOut = false;
          takeBack(bytes, used);
          count(0);
        },
      };
    },
  };
}
