/** How fast a position moves. */
export interface Rate {
  note(lsn: bigint, nowMs: number): void;
  /** Bytes in a second, of about the last minute; undefined until ten seconds have been seen. */
  perSecond(nowMs: number): bigint | undefined;
}

const windowMs = 60_000;
const leastMs = 10_000;
const betweenMs = 1000;

/** A rate of a position that was not seen yet. */
export function openRate(): Rate {
  let seen: { readonly lsn: bigint; readonly ms: number }[] = [];
  return {
    note(lsn, nowMs) {
      const last = seen.at(-1);
      // Another timeline, or another server.
      if (last && lsn < last.lsn) seen = [];
      const isSoon = last !== undefined && seen.length > 1 && nowMs - (seen.at(-2)?.ms ?? 0) < betweenMs;
      seen = [...(isSoon ? seen.slice(0, -1) : seen), { lsn, ms: nowMs }];
      const before = seen.findLastIndex(({ ms }) => ms <= nowMs - windowMs);
      if (before > 0) seen = seen.slice(before);
    },
    perSecond(nowMs) {
      const from = seen.findLast(({ ms }) => ms <= nowMs - windowMs) ?? seen[0];
      const to = seen.at(-1);
      if (!from || !to || nowMs - from.ms < leastMs) return undefined;
      return BigInt(Math.round((Number(to.lsn - from.lsn) * 1000) / (nowMs - from.ms)));
    },
  };
}
