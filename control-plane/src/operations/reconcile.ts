import type { Hello } from "@coppice/proto/gen/coppice/agent/v1/session";
import { create } from "@bufbuild/protobuf";
import { CancelSchema } from "@coppice/proto/gen/coppice/agent/v1/session";
import { Failure, failureToDetail } from "@coppice/proto/kit/failure";
import { lockOperation } from "../catalog/operations/change.ts";
import { findOperation, listSent } from "../catalog/operations/read.ts";
import { holdsFence, type OperationRow } from "../catalog/operations/row.ts";
import type { AgentSession } from "../fleet/agent-session.ts";
import { finishAttempt } from "./ending/ending.ts";
import type { OperationParts } from "./parts.ts";

/**
 * Compares what an agent says it still answers for with what the catalog believes was sent to its host. What the agent
 * does not know was lost with an earlier process of it, or never arrived: nobody can say how it ended. What it still
 * works on although nobody waits for it is stopped.
 */
export async function reconcile(
  { catalog, log }: OperationParts,
  session: AgentSession,
  inFlight: Hello["inFlight"],
): Promise<void> {
  const sent = await listSent(catalog.db, session.hostId, ["DISPATCHED", "RUNNING", "CANCELLING", "INDETERMINATE"]);
  for (const row of sent) {
    if (inFlight.some((known) => isSameAttempt(row, known))) continue;
    const lost = await catalog.transaction((tx) => loseAttempt(tx, row));
    if (lost) log.warn({ operation: row.id, attempt: row.attempt, host: session.hostId }, "attempt lost");
  }
  for (const { operationId, commandId, fence, hasResult } of inFlight) {
    if (hasResult || fence === undefined) continue;
    const record = await findOperation(catalog.db, operationId);
    if (record !== undefined && record.row.endTime === null && holdsFence(record.row, fence)) continue;
    log.warn({ operation: operationId, command: commandId, host: session.hostId }, "stale command is cancelled");
    await session.send({ case: "cancel", value: create(CancelSchema, { operationId, fence }) });
  }
}

async function loseAttempt(tx: Parameters<typeof lockOperation>[0], expected: OperationRow): Promise<boolean> {
  const row = await lockOperation(tx, expected.id);
  const isSame =
    row !== undefined &&
    row.endTime === null &&
    row.commandId !== null &&
    row.commandId === expected.commandId &&
    row.attempt === expected.attempt;
  if (!isSame) return false;
  const failure = new Failure("AGENT_LOST", "the agent was lost while it worked on it");
  await finishAttempt(tx, row, { is: "unknown", failure: failureToDetail(failure) });
  return true;
}

function isSameAttempt(row: OperationRow, { operationId, commandId, fence }: Hello["inFlight"][number]): boolean {
  return row.id === operationId && row.commandId === commandId && fence !== undefined && holdsFence(row, fence);
}
