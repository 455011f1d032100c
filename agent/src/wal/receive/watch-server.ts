import { toFailure } from "@coppice/proto/kit/failure";
import { sleep } from "@coppice/proto/kit/sleep";
import { formatLsn, parseLsn } from "@coppice/proto/kit/wal/lsn";
import { recordEnd } from "@coppice/proto/kit/wal/record-end";
import type { Logger } from "pino";
import { openLook, type PostgresConnection } from "../../postgres/connect.ts";
import type { ResolvedEndpoint } from "../../postgres/endpoint.ts";
import type { Anchor, Ledger } from "./ledger.ts";

/** What is watched. */
export interface WatchOptions {
  readonly endpoint: () => Promise<ResolvedEndpoint>;
  readonly systemIdentifier: string;
  /** Empty where none is used. */
  readonly slot: string;
  readonly ledger: Ledger;
  readonly onAnchor: (anchor: Anchor) => void;
  /** Where everything committed ends; the end of the WAL where it is not given. */
  readonly committedEnd?: (connection: PostgresConnection, end: ServerEnd) => Promise<bigint>;
  readonly log: Logger;
  /** As openLook takes it. */
  readonly answerMs?: number;
}

/** The end of WAL that is being written. */
export interface ServerEnd {
  readonly timeline: number;
  readonly lsn: bigint;
  readonly segmentBytes: bigint;
}

const everyMs = 10_000;
/** How soon, and how often at most, a slot is looked for again that is about to be made. */
const soon = { everyMs: 1000, looks: 10 };
/** How often, and at most for how long, WAL is waited for that is written and not flushed yet. */
const flush = { lookEveryMs: 50, looks: 20 };

/**
 * Asks the server every ten seconds for its time and the end of its WAL, and how its slot is, until the signal aborts.
 * A standby has no end of its own and gives no anchors. What fails is tried again at the next turn: the stream beside
 * it tells what is wrong.
 */
export async function watchServer(options: WatchOptions, signal: AbortSignal): Promise<void> {
  let connection: PostgresConnection | undefined;
  for (let looks = 0; !signal.aborted; looks++) {
    let isReceived = true;
    try {
      connection ??= await openLook(await options.endpoint(), { signal, answerMs: options.answerMs });
      isReceived = await look(connection, options, signal);
    } catch (error) {
      if (!signal.aborted) options.log.debug({ reason: toFailure(error).reason }, "the server's time was not read");
      await connection?.[Symbol.asyncDispose]();
      connection = undefined;
    }
    const isSoon = !isReceived && looks < soon.looks;
    await sleep(isSoon ? soon.everyMs : everyMs, signal).catch(() => undefined);
  }
  await connection?.[Symbol.asyncDispose]();
}

interface Clock {
  time_us: string;
  in_recovery: boolean;
  system_identifier: string;
}

/** Whether somebody receives by the slot, where there is to be one. */
async function look(
  connection: PostgresConnection,
  { systemIdentifier, slot, ledger, onAnchor, committedEnd }: WatchOptions,
  signal: AbortSignal,
): Promise<boolean> {
  // The clock first: then everything that was committed up to that time lies before the position.
  const clock = await connection.queryOne<Clock>(
    `select (extract(epoch from clock_timestamp()) * 1000000)::bigint::text as time_us, pg_is_in_recovery() as in_recovery,
      (select system_identifier::text from pg_control_system()) as system_identifier`,
  );
  if (clock.system_identifier !== systemIdentifier) return false;
  const timeUs = BigInt(clock.time_us);
  const isReceived = slot === "" || (await lookAtSlot(connection, slot, ledger));
  if (clock.in_recovery) return isReceived;
  const now = await connection.queryOne<{ lsn: string; timeline: number; segment_bytes: string }>(
    `select lsn::text as lsn, ('x' || substr(pg_walfile_name(lsn), 1, 8))::bit(32)::int as timeline,
        (select setting from pg_settings where name = 'wal_segment_size') as segment_bytes
      from (select pg_current_wal_insert_lsn() as lsn) as now`,
  );
  const { timeline } = now;
  const end = { timeline, lsn: parseLsn(now.lsn), segmentBytes: BigInt(now.segment_bytes) };
  const lsn = committedEnd ? await committedEnd(connection, end) : end.lsn;
  if (await isFlushed(connection, recordEnd(lsn, end.segmentBytes), signal)) onAnchor({ timeline, timeUs, lsn });
  ledger.stand({ serverLsn: lsn, serverTime: new Date(Number(timeUs / 1000n)) });
  return isReceived;
}

interface SlotRow {
  active: boolean;
  restart_lsn: string | null;
  wal_status: string | null;
  safe_wal_size: string | null;
  kept_bytes: string | null;
}

async function lookAtSlot(connection: PostgresConnection, name: string, ledger: Ledger): Promise<boolean> {
  const [held] = await connection.query<SlotRow>(
    `select active, restart_lsn::text as restart_lsn, wal_status, safe_wal_size::text as safe_wal_size,
        case when not pg_is_in_recovery() then pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint::text end
          as kept_bytes
      from pg_replication_slots where slot_name = $1`,
    [name],
  );
  const number = (text: string | null | undefined) => (text === null || text === undefined ? undefined : BigInt(text));
  const [safe, kept] = [number(held?.safe_wal_size), number(held?.kept_bytes)];
  ledger.stand({
    slotStatus: held?.wal_status ?? "",
    slot: {
      name,
      exists: held !== undefined,
      active: held?.active ?? false,
      restartLsn: held?.restart_lsn ?? "",
      walStatus: held?.wal_status ?? "",
      ...(safe === undefined ? {} : { safeWalBytes: safe }),
      ...(kept === undefined ? {} : { keptBytes: kept < 0n ? 0n : kept }),
    },
  });
  return held?.active === true;
}

/**
 * Whether everything before the position is on the server's disk, at the latest after a second. What is not may be lost
 * when the server dies, and the same positions then hold what was committed later.
 */
async function isFlushed(connection: PostgresConnection, lsn: bigint, signal: AbortSignal): Promise<boolean> {
  for (let looks = 0; looks < flush.looks; looks++) {
    const { done } = await connection.queryOne<{ done: boolean }>(
      "select pg_current_wal_flush_lsn() >= $1::pg_lsn as done",
      [formatLsn(lsn)],
    );
    if (done) return true;
    await sleep(flush.lookEveryMs, signal);
  }
  return false;
}
