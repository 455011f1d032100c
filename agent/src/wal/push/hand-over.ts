import { setTimeout as delay } from "node:timers/promises";
import { sleep } from "@coppice/proto/kit/sleep";
import { parseLsn } from "@coppice/proto/kit/wal/lsn";
import { segmentStart } from "@coppice/proto/kit/wal/segment";
import { isFailure } from "@coppice/proto/kit/failure";
import type { PostgresConnection } from "../../postgres/connect.ts";
import type { RunningArchive } from "../receive/archive.ts";

const lookEveryMs = 200;
const looks = 25;

/** What a stream has to come to before archive_command can go on alone. */
export interface HandOver {
  /** Undefined until the server archives by its archive_command. */
  readonly since: () => { readonly insertLsn: bigint; readonly segmentBytes: bigint } | undefined;
  /** How far the stream has stored. */
  readonly storedLsn: () => bigint;
  readonly signal: AbortSignal;
}

/**
 * Lets a stream run until everything that was full before archive_command came into force is stored: what is full later
 * the server offers by itself. Then there is no hole between the two. Rejects with the signal's reason.
 */
export async function waitForHandOver({ since, storedLsn, signal }: HandOver): Promise<void> {
  for (;;) {
    const begin = since();
    if (begin && storedLsn() >= segmentStart(begin.insertLsn, begin.segmentBytes)) return;
    await sleep(lookEveryMs, signal);
  }
}

/** Gives how far a running archive has stored, by what it tells; nothing that it has to tell gets lost. */
export function followStored(archive: RunningArchive): () => bigint {
  let reached = 0n;
  return () => {
    const report = archive.report();
    archive.repeat();
    for (const end of [report?.storedLsn ?? "", ...(report?.stored ?? []).map(({ endLsn }) => endLsn)]) {
      const lsn = end === "" ? 0n : parseLsn(end);
      if (lsn > reached) reached = lsn;
    }
    return reached;
  };
}

/**
 * Drops the slot of a stream that has ended. The server notices its end a moment later; whoever else uses it keeps it.
 * Fails like a query.
 */
export async function dropIdleSlot(connection: PostgresConnection, slot: string): Promise<void> {
  for (let look = 0; look < looks; look++) {
    try {
      const dropped = await connection.query(
        "select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = $1 and not active",
        [slot],
      );
      if (dropped.length > 0) return;
    } catch (error) {
      // Somebody was faster: it is gone, or in use again.
      if (!isFailure(error) || !["42704", "55006"].includes(error.metadata["sqlstate"] ?? "")) throw error;
    }
    const [left] = await connection.query("select from pg_replication_slots where slot_name = $1", [slot]);
    if (left === undefined) return;
    await delay(lookEveryMs);
  }
}
