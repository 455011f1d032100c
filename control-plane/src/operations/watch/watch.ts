import type { Operation } from "@coppice/proto/gen/coppice/control/v1/operation";
import type { Catalog } from "../../catalog/catalog.ts";
import type { Notices } from "../../catalog/notices.ts";
import { findOperation } from "../../catalog/operations/read.ts";
import { fail } from "@coppice/proto/kit/failure";
import { parseCursor } from "./cursor.ts";
import { snapshot } from "./snapshot.ts";
import { isTerminal } from "../states.ts";

/** What watching needs. */
export interface WatchParts {
  readonly catalog: Catalog;
  /** Of the channel coppice_operation. */
  readonly operationNotices: Notices;
  /** Pause after which a change is looked for without a notice. */
  readonly pollMs: number;
}

/**
 * Snapshots of an operation: one for each change since the cursor's, as far as changes do not overtake each other, also
 * when its agent is lost or back, and the terminal one last. Ends by itself after that, or with the signal's reason. Errors: OPERATION_NOT_FOUND,
 * INVALID_FIELD.
 */
export async function* watchOperation(
  { catalog, operationNotices, pollMs }: WatchParts,
  { id, cursor, signal }: { id: string; cursor: string; signal: AbortSignal },
): AsyncGenerator<Operation> {
  let known = parseCursor(cursor);
  let reason: string | undefined;
  // Subscribed before the first look: no change falls between the two.
  using changes = operationNotices.subscribe(id);
  for (;;) {
    const record = await findOperation(catalog.db, id);
    if (record === undefined) fail("OPERATION_NOT_FOUND", `there is no operation ${id}`);
    const { revision, state } = record.row;
    const seen = snapshot(record);
    // Not "greater": a catalog that was restored may have gone back. An agent that is lost changes no row of it.
    const isNew = revision !== known || (reason !== undefined && seen.stateReason !== reason);
    known = revision;
    reason = seen.stateReason;
    if (isNew) yield seen;
    if (isTerminal(state)) return;
    await changes.next(pollMs, signal);
  }
}

/**
 * The operation as soon as it has changed since the cursor's snapshot or has ended, or as it is after `timeoutMs`.
 * Errors: OPERATION_NOT_FOUND, INVALID_FIELD.
 */
export async function waitOperation(
  { catalog, operationNotices, pollMs }: WatchParts,
  { id, cursor, timeoutMs, signal }: { id: string; cursor: string; timeoutMs: number; signal: AbortSignal },
): Promise<Operation> {
  const known = parseCursor(cursor);
  const until = performance.now() + timeoutMs;
  using changes = operationNotices.subscribe(id);
  for (;;) {
    const record = await findOperation(catalog.db, id);
    if (record === undefined) return fail("OPERATION_NOT_FOUND", `there is no operation ${id}`);
    const leftMs = until - performance.now();
    if (record.row.revision !== known || isTerminal(record.row.state) || leftMs <= 0) return snapshot(record);
    await changes.next(Math.min(pollMs, leftMs), signal);
  }
}
