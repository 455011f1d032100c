import { Failure } from "@coppice/proto/kit/failure";
import { formatSize } from "@coppice/proto/kit/size";
import { freeBytesOf } from "../host/space.ts";

/** What has to stay free. */
export interface RoomToKeep {
  /** On its file system. */
  readonly folder: string;
  /** 0 is not watched. */
  readonly leastBytes: bigint;
  /** Of the work that fills it. */
  readonly signal: AbortSignal;
}

/** Ends with its disposal. */
export interface RoomWatch extends Disposable {
  /** That of the work, aborted with SPACE_MISSING too. */
  readonly signal: AbortSignal;
}

const lookEveryMs = 500;

/**
 * Watches the free space of a file system that work is done on beside a server that runs: a disk that our work has filled
 * would stop that server.
 */
export function watchRoom({ folder, leastBytes, signal }: RoomToKeep): RoomWatch {
  if (leastBytes === 0n) return { signal, [Symbol.dispose]: () => {} };
  const missing = new AbortController();
  const look = async () => {
    const free = await freeBytesOf(folder);
    if (free === undefined || free >= leastBytes) return;
    const message = `only ${formatSize(free)} were left free for the server that runs beside ${folder}, which must keep ${formatSize(leastBytes)}`;
    const hint = "make room, or name a folder of another disk with --scratch";
    missing.abort(new Failure("SPACE_MISSING", message, { hint }));
  };
  // A look that fails shows nothing, as in preflight; the work itself will.
  const timer = setInterval(() => void look().catch(() => {}), lookEveryMs);
  return { signal: AbortSignal.any([signal, missing.signal]), [Symbol.dispose]: () => clearInterval(timer) };
}
