import { fail } from "@coppice/proto/kit/failure";
import type { Logger } from "pino";
import type { ReplicationConnection } from "../../postgres/replication/open-replication.ts";
import type { Slot } from "../../postgres/replication/slots.ts";
import type { StreamStart } from "./choose-start.ts";

/** The slot of an archive. */
export interface SlotUse {
  readonly slot: string;
  readonly log: Logger;
  /** Set when it was made here. */
  isSlotNew: boolean;
}

/** Where the slot holds the server's WAL; one that is missing is made, one that was given up made anew. */
export async function ensureSlot(replication: ReplicationConnection, turn: SlotUse): Promise<StreamStart> {
  const held = await replication.readSlot(turn.slot);
  if (held === undefined) return await makeSlot(replication, turn);
  return held.restartLsn === undefined ? await renewSlot(replication, turn) : await startOf(replication, held);
}

/** Makes a slot anew that keeps nothing that is needed. */
export async function renewSlot(replication: ReplicationConnection, turn: SlotUse): Promise<StreamStart> {
  turn.log.warn({ slot: turn.slot }, "the slot keeps nothing that is needed, and is made anew");
  await replication.dropSlot(turn.slot);
  return await makeSlot(replication, turn);
}

async function makeSlot(replication: ReplicationConnection, turn: SlotUse): Promise<StreamStart> {
  const made = await replication.createSlot(turn.slot, { temporary: false, reserveWal: true });
  turn.isSlotNew = true;
  return await startOf(replication, made);
}

async function startOf(
  replication: ReplicationConnection,
  { restartLsn, restartTimeline }: Slot,
): Promise<StreamStart> {
  if (restartLsn === undefined) return fail("SLOT_INVALIDATED", "the slot keeps no WAL");
  return { lsn: restartLsn, timeline: restartTimeline ?? (await replication.identify()).timeline };
}
