import { fail } from "@coppice/proto/kit/failure";
import { parseLsn } from "@coppice/proto/kit/wal/lsn";
import type { Asked } from "./replication-failure.ts";
import { type Row, textOf } from "./rows.ts";

/** Runs a command that answers with result sets; slot is the name of the one that it is about. */
export type Ask = (command: string, asked?: Asked, slot?: string) => Promise<(readonly Row[])[]>;

/** How a physical slot is made. */
export interface SlotOptions {
  /** It goes with the connection. */
  readonly temporary: boolean;
  /** It keeps WAL from now on, not only from its first use. */
  readonly reserveWal: boolean;
}

/** Where a physical slot holds the server's WAL. */
export interface Slot {
  /** Undefined when it keeps none: never used, or invalidated. */
  readonly restartLsn: bigint | undefined;
  readonly restartTimeline: number | undefined;
}

function quoteSlot(name: string): string {
  if (!/^[a-z0-9_]{1,63}$/.test(name))
    fail("INVALID_FIELD", `${JSON.stringify(name)} is no name for a replication slot`, {
      hint: "up to 63 lower-case letters, digits and underscores",
    });
  return `"${name}"`;
}

/** What a slot holds; undefined when there is none of that name. */
export async function readSlot(ask: Ask, name: string): Promise<Slot | undefined> {
  const [[row] = []] = await ask(`READ_REPLICATION_SLOT ${quoteSlot(name)}`, "slot", name);
  if (row?.get("slot_type") === undefined) return undefined;
  return {
    restartLsn: row.get("restart_lsn") && parseLsn(textOf(row, "restart_lsn")),
    restartTimeline: row.get("restart_tli") && Number(textOf(row, "restart_tli")),
  };
}

/** Makes a physical slot. Fails with SLOT_EXISTS, SLOTS_EXHAUSTED or PRIVILEGE_MISSING. */
export async function createSlot(ask: Ask, name: string, { temporary, reserveWal }: SlotOptions): Promise<Slot> {
  const options = `${temporary ? "TEMPORARY " : ""}PHYSICAL${reserveWal ? " (RESERVE_WAL)" : ""}`;
  await ask(`CREATE_REPLICATION_SLOT ${quoteSlot(name)} ${options}`, "slot", name);
  return (await readSlot(ask, name)) ?? fail("SLOT_MISSING", `the slot ${name} was dropped as soon as it was made`);
}

/** Drops a slot. Fails with SLOT_MISSING, SLOT_IN_USE. */
export async function dropSlot(ask: Ask, name: string): Promise<void> {
  await ask(`DROP_REPLICATION_SLOT ${quoteSlot(name)}`, "slot", name);
}
