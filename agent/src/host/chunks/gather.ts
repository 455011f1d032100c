import { freeChunk } from "../free-chunk.ts";

/** As much as one write to a file should have at least. */
export const gatherBytes = 1 << 20;
/** How long less than that waits for more. */
const gatherMs = 20;

/** Makes large pieces of the small ones that a pipe or a socket gives, which are costly to hand on one by one. */
export interface Gather {
  /** Copies a piece; what has come to `gatherBytes`, or has waited for long enough, is handed on. */
  put(piece: Buffer): void;
  /** As `put`; nobody else may hold the piece, whose memory is freed. */
  putOwned(piece: Buffer): void;
  /** Hands on the rest. */
  flush(): void;
  /** Forgets the rest. */
  drop(): void;
}

/** Opens one; what `hand` is given is nobody else's, and never empty. */
export function openGather(hand: (bytes: Buffer) => void): Gather {
  let gathered: Buffer | undefined;
  let filled = 0;
  let timer: NodeJS.Timeout | undefined;
  const settle = () => {
    clearTimeout(timer);
    timer = undefined;
  };
  const flush = () => {
    settle();
    if (!gathered || filled === 0) return;
    const isWhole = filled === gatherBytes;
    const bytes = isWhole ? gathered : Buffer.from(gathered.subarray(0, filled));
    if (isWhole) gathered = undefined;
    filled = 0;
    hand(bytes);
  };
  const put = (piece: Buffer) => {
    for (let offset = 0; offset < piece.length;) {
      gathered ??= Buffer.allocUnsafeSlow(gatherBytes);
      const copied = piece.copy(gathered, filled, offset);
      filled += copied;
      offset += copied;
      if (filled === gatherBytes) flush();
    }
    if (filled > 0) timer ??= setTimeout(flush, gatherMs);
  };
  return {
    put,
    putOwned(piece) {
      put(piece);
      freeChunk(piece);
    },
    flush,
    drop() {
      settle();
      gathered = undefined;
      filled = 0;
    },
  };
}
