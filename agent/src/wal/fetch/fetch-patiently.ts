import { backoffMs } from "@coppice/proto/kit/backoff";
import { isFailure } from "@coppice/proto/kit/failure";
import { sleep } from "@coppice/proto/kit/sleep";
import type { Storage } from "../../storage/storage.ts";
import { fetchWal, type WalToFetch } from "./fetch-wal.ts";

const backoff = { baseMs: 500, capMs: 10_000 };
/** What waiting does not mend. */
const lasting = [
  "OBJECT_KEY_REFUSED",
  "IDENTITY_MISSING",
  "IDENTITY_WRONG",
  "CONTENT_UNREADABLE",
  "FEATURE_UNKNOWN",
  "PROGRAM_MISSING",
  "SPACE_MISSING",
];

/** As fetchWal, tried again for so long while the storage is in trouble. */
export async function fetchPatiently(
  storage: Storage,
  wal: WalToFetch,
  { path, waitMs }: { path: string; waitMs: number },
): Promise<boolean> {
  const untilMs = performance.now() + waitMs;
  for (let attempt = 0; ; attempt++) {
    try {
      return await fetchWal(storage, wal, path);
    } catch (error) {
      wal.signal.throwIfAborted();
      const pauseMs = backoffMs(attempt, backoff);
      if (lasting.some((reason) => isFailure(error) && error.reason === reason)) throw error;
      if (performance.now() + pauseMs > untilMs) throw error;
      await sleep(pauseMs, wal.signal);
    }
  }
}
