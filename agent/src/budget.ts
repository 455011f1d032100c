/** Bytes taken out of a budget; disposing gives them back, and its slabs with them. */
export interface Lease extends Disposable {
  readonly bytes: number;
  /** An empty buffer of `slabBytes`; at most `bytes / slabBytes` of them. Not to be touched after the disposal. */
  slab(): Buffer;
}

/** Bounds the memory that the buffers of a process hold together. */
export interface ByteBudget {
  /** Waits, first come first served, until so many bytes (at most all) are free. Rejects with the signal's reason. */
  lease(bytes: number, signal: AbortSignal): Promise<Lease>;
}

/** What the buffers of an agent may hold: two of the largest parts, and an agent below 200 MB. */
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
  let freeBytes = totalBytes;
  const slabs: Buffer[] = [];
  const waiting: Waiting[] = [];
  const grantNext = () => {
    for (let next = waiting[0]; next && next.bytes <= freeBytes; next = waiting[0]) {
      waiting.shift();
      freeBytes -= next.bytes;
      next.grant();
    }
  };
  const giveBack = (bytes: number, used: readonly Buffer[]) => {
    freeBytes += bytes;
    slabs.push(...used);
    // Nobody is at work: the memory may go.
    if (freeBytes === totalBytes) slabs.length = 0;
    grantNext();
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
      return {
        bytes,
        slab() {
          if (!isOut || used.length * slabBytes >= bytes) throw new RangeError("the lease has no further buffer");
          const slab = slabs.pop() ?? Buffer.allocUnsafeSlow(slabBytes);
          used.push(slab);
          return slab;
        },
        [Symbol.dispose]() {
          if (isOut) giveBack(bytes, used);
          isOut = false;
        },
      };
    },
  };
}
