import { setTimeout as delay } from "node:timers/promises";
import { sleep } from "@coppice/proto/kit/sleep";
import { segmentStart } from "@coppice/proto/kit/wal/segment";
import { fail, isFailure } from "@coppice/proto/kit/failure";
import type { PostgresConnection } from "../../postgres/connect.ts";

const lookEveryMs = 200;
const looks = 25;

/** What a stream has to come to before archive_command can go on alone. */
export interface HandOver {
  /** Undefined until the server archives by its archive_command. */
  readonly since: () => { readonly insertLsn: bigint; readonly segmentBytes: bigint } | undefined;
  /** From where on the stream's slot keeps WAL: everything before it is stored, without a hole. */
  readonly slotLsn: () => bigint | undefined;
  readonly signal: AbortSignal;
}

/**
 * Lets a stream run until everything that was full before archive_command came into force is stored: what is full later
 * the server offers by itself. Then there is no hole between the two. Rejects with the signal's reason.
 */
export async function waitForHandOver({ signal, ...handOver }: HandOver): Promise<void> {
  while (!isHandedOver(handOver)) await sleep(lookEveryMs, signal);
}

/** Whether nothing that the slot keeps is needed any more. */
export function isHandedOver({ since, slotLsn }: Omit<HandOver, "signal">): boolean {
  const begin = handedFrom({ since });
  const reached = slotLsn();
  return begin !== undefined && reached !== undefined && reached >= begin;
}

/** From where on the server hands over everything; undefined while it does not. */
export function handedFrom({ since }: Pick<HandOver, "since">): bigint | undefined {
  const begin = since();
  return begin && segmentStart(begin.insertLsn, begin.segmentBytes);
}

/**
 * Drops the slot of a stream that has ended. The server notices its end a moment later; whoever else uses it keeps it, and
 * then it is false. Fails like a query.
 */
export async function dropIdleSlot(connection: PostgresConnection, slot: string): Promise<boolean> {
  for (let look = 0; look < looks; look++) {
    try {
      const dropped = await connection.query(
        "select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = $1 and not active",
        [slot],
      );
      if (dropped.length > 0) return true;
    } catch (error) {
      // Somebody was faster: it is gone, or in use again.
      if (!isFailure(error) || !["42704", "55006"].includes(error.metadata["sqlstate"] ?? "")) throw error;
    }
    const [left] = await connection.query("select from pg_replication_slots where slot_name = $1", [slot]);
    if (left === undefined) return true;
    await delay(lookEveryMs);
  }
  return false;
}

/** Drops the slot of an archive that has ended for good. Fails with SLOT_IN_USE while the server has a reader of it. */
export async function giveUpSlot(connection: PostgresConnection, slot: string): Promise<void> {
  if (!(await dropIdleSlot(connection, slot))) fail("SLOT_IN_USE", `the slot ${slot} has a reader still`);
}
