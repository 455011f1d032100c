import { type Failure, fail, isFailure, toFailure } from "@coppice/proto/kit/failure";
import { sleep } from "@coppice/proto/kit/sleep";
import { parseLsn } from "@coppice/proto/kit/wal/lsn";
import type { Logger } from "pino";
import { openLook, type PostgresConnection } from "../../postgres/connect.ts";
import type { ResolvedEndpoint } from "../../postgres/endpoint.ts";
import { applyCommand } from "./archive-command.ts";
import { type ArchiverState, readArchiverState } from "./archiver-state.ts";
import type { MaxAge } from "./max-age.ts";

/** What a server is supervised for. */
export interface SuperviseOptions {
  readonly endpoint: () => Promise<ResolvedEndpoint>;
  readonly systemIdentifier: string;
  /** Physical slot of mode stream, which keeps WAL for nobody once it is handed over. */
  readonly slot: string;
  readonly command: string;
  readonly socket: string;
  /** Ends a segment that is not full. */
  readonly maxAge: MaxAge;
  /** Told after each look, and why it failed where it did; the connection is for it alone as long as it takes. */
  readonly onLook: (state: ArchiverState, seen: Seen, connection: PostgresConnection) => Promise<void>;
  readonly onTrouble: (trouble: Failure | undefined) => void;
  readonly log: Logger;
  /** As openLook takes it. */
  readonly answerMs?: number;
}

/** What was seen besides. */
export interface Seen {
  /** Whether a slot of that name is there, and from where on it keeps WAL; undefined where it keeps none. */
  readonly hasSlot: boolean;
  readonly slotLsn: bigint | undefined;
  /** Whether the server hands its WAL to the socket, as it says itself. */
  readonly isCommandSet: boolean;
}

const everyMs = 10_000;
const soonMs = 1000;
/** What a person has to mend. */
const lasting = ["ARCHIVE_COMMAND_TAKEN", "PRIVILEGE_MISSING"];

/**
 * Has a server archive by the command, and looks at it every ten seconds, sooner while that is not so, until the signal
 * aborts. Trouble is told and it is tried again.
 */
export async function supervise(options: SuperviseOptions, signal: AbortSignal): Promise<void> {
  let connection: PostgresConnection | undefined;
  while (!signal.aborted) {
    let pauseMs = soonMs;
    try {
      connection ??= await openLook(await options.endpoint(), { signal, answerMs: options.answerMs });
      const isSettled = await look(connection, options);
      options.onTrouble(undefined);
      if (isSettled) pauseMs = Math.min(everyMs, Math.max(soonMs, options.maxAge.ms / 2));
    } catch (error) {
      if (signal.aborted) break;
      const trouble = toFailure(error);
      const cause = trouble.reason === "INTERNAL" ? { err: error } : {};
      options.log.debug({ reason: trouble.reason, ...cause }, "the server's archiving was not looked at");
      options.onTrouble(trouble);
      if (lasting.includes(trouble.reason)) pauseMs = everyMs;
      else {
        await connection?.[Symbol.asyncDispose]();
        connection = undefined;
      }
    }
    await sleep(pauseMs, signal).catch(() => undefined);
  }
  await connection?.[Symbol.asyncDispose]();
}

/** Whether all is as it should be. */
async function look(connection: PostgresConnection, options: SuperviseOptions): Promise<boolean> {
  const { command, systemIdentifier, slot } = options;
  let state = await readArchiverState(connection);
  if (state.systemIdentifier !== systemIdentifier)
    fail(
      "WAL_FOREIGN",
      `the server has system identifier ${state.systemIdentifier}, and WAL of ${systemIdentifier} is archived here`,
    );
  let refusal: Failure | undefined;
  try {
    const maxAgeSeconds = Math.max(1, Math.round(options.maxAge.ms / 1000));
    await applyCommand(connection, state, { ...options, maxAgeSeconds });
    state = await readArchiverState(connection);
  } catch (error) {
    refusal = toFailure(error);
  }
  // What is told of the server comes with what stands in the way.
  if (refusal) options.onTrouble(refusal);
  const slots = await connection.query<{ lsn: string | null }>(
    "select restart_lsn::text as lsn from pg_replication_slots where slot_name = $1",
    [slot],
  );
  const lsn = slots[0]?.lsn ?? undefined;
  const isCommandSet = state.mode !== "off" && state.command === command;
  const seen = { hasSlot: slots.length > 0, slotLsn: lsn === undefined ? undefined : parseLsn(lsn), isCommandSet };
  try {
    await options.onLook(state, seen, connection);
  } catch (error) {
    // It has named all rights that are missing, this one too.
    throw refusal && isFailure(error, "PRIVILEGE_MISSING") ? refusal : error;
  }
  if (refusal) throw refusal;
  if (isCommandSet) await options.maxAge.look(connection, state);
  return isCommandSet && slots.length === 0;
}
