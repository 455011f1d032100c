import { join } from "node:path";
import { formatSize } from "@coppice/proto/kit/size";
import { freeBytesOf } from "../../host/space.ts";
import { type Item, ok, warning } from "./item.ts";

const leastBytes = 1024n * 1024n * 1024n;

/** What is known of the room for WAL, and where. */
export interface WalRoom {
  /** Undefined where it cannot be seen. */
  readonly freeBytes: bigint | undefined;
  readonly where: string;
}

/** Looks at pg_wal itself, which may lie on a disk of its own, else at what everybody may see: the data directory's disk. */
export async function seeWalRoom(dataDirectory: string): Promise<WalRoom> {
  const own = await freeBytesOf(join(dataDirectory, "pg_wal"));
  if (own !== undefined) return { freeBytes: own, where: "pg_wal" };
  return { freeBytes: await freeBytesOf(dataDirectory), where: "the data directory's disk" };
}

/**
 * Judges the room for WAL on the server's disk: what a slot may keep has to fit, and without a limit at least two rounds
 * of checkpoints, which a backup keeps as long as it takes.
 */
export function judgeWalRoom({
  freeBytes,
  where,
  maxWalBytes,
  slotLimitBytes,
}: WalRoom & {
  readonly maxWalBytes: bigint;
  /** Undefined: no limit. */
  readonly slotLimitBytes: bigint | undefined;
}): Item {
  const name = "wal-space";
  if (freeBytes === undefined) return ok(name, "the room for WAL cannot be seen by the agent's user");
  const wanted = slotLimitBytes ?? (2n * maxWalBytes > leastBytes ? 2n * maxWalBytes : leastBytes);
  if (freeBytes >= wanted) return ok(name, `${where} has ${formatSize(freeBytes)} free`);
  const what =
    slotLimitBytes === undefined
      ? `WAL of two checkpoints may take ${formatSize(wanted)}`
      : `slots may keep ${formatSize(wanted)} (max_slot_wal_keep_size)`;
  return warning(
    name,
    `${where} has ${formatSize(freeBytes)} free, and ${what}: the server stops when that disk is full`,
    "make room there, or move pg_wal to a larger disk",
  );
}
