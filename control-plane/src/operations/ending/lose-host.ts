import { Failure, failureToDetail } from "@coppice/proto/kit/failure";
import type { Database } from "../../catalog/catalog.ts";
import { lockActiveOfHost, lockOperation } from "../../catalog/operations/change.ts";
import type { OperationRow } from "../../catalog/operations/row.ts";
import { failOperation, finishAttempt } from "./ending.ts";
import { parseSpec } from "../spec.ts";
import { isTerminal } from "../states.ts";

/**
 * Ends what a host without access any more was to work on: what was never sent, or changes nothing, has failed
 * (HOST_REVOKED); of what may have been done nobody knows, until a machine that enrols under the host's name looks.
 */
export async function loseHost(tx: Database, host: { readonly id: string; readonly name: string }): Promise<void> {
  for (const { id } of await lockActiveOfHost(tx, host.id)) {
    // One that has ended meanwhile ended with its group, for another one of it was lost.
    const row = await lockOperation(tx, id);
    if (row !== undefined && !isTerminal(row.state)) await loseOperation(tx, row, host.name);
  }
}

async function loseOperation(tx: Database, row: OperationRow, hostName: string): Promise<void> {
  const failure = failureToDetail(new Failure("HOST_REVOKED", `the certificate of host ${hostName} was revoked`));
  const { kind } = parseSpec(row.spec);
  const isCancelled = row.cancelTime !== null;
  if (row.state === "QUEUED" || (kind.settle === "repeat" && !isCancelled)) {
    await failOperation(tx, row, "fail", failure);
  } else if (row.state !== "INDETERMINATE" || row.commandId !== null) {
    // Also a look that was under way: the next one is for whoever comes back.
    await finishAttempt(tx, row, { is: "unknown", failure });
  }
}
