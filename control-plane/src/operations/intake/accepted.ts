import type { Accepted } from "@coppice/proto/gen/coppice/agent/v1/session";
import type { Catalog } from "../../catalog/catalog.ts";
import { changeOperation, lockOperation } from "../../catalog/operations/change.ts";
import { holdsFence } from "../../catalog/operations/row.ts";
import { followChild } from "../group/group.ts";
import { nextState } from "../states.ts";

/** Notes that the agent works on the operation's present attempt. Anything else changes nothing. */
export async function takeAccepted(catalog: Catalog, hostId: string, accepted: Accepted): Promise<void> {
  const { operationId, commandId, fence } = accepted;
  await catalog.transaction(async (tx) => {
    const row = await lockOperation(tx, operationId);
    if (row === undefined || row.hostId !== hostId || row.commandId !== commandId) return;
    if (fence === undefined || !holdsFence(row, fence)) return;
    const state = nextState(row.state, "accept");
    if (state === undefined) return;
    const changed = await changeOperation(
      tx,
      { id: operationId, states: [row.state], fence },
      { state, startTime: row.startTime ?? new Date() },
    );
    if (changed !== undefined) await followChild(tx, changed);
  });
}
