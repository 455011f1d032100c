import { fail, Failure, failureToDetail } from "@coppice/proto/kit/failure";
import { type AuditedCall, writeAudit } from "../../audit/audit.ts";
import type { Database } from "../../catalog/catalog.ts";
import { lockOperation } from "../../catalog/operations/change.ts";
import { failOperation } from "./ending.ts";
import { lostAttempt } from "../settlement.ts";
import { parseSpec } from "../spec.ts";
import { nextState } from "../states.ts";

/**
 * Gives up finding out how an operation of unknown outcome ended: it has failed, its leavings name what was not looked
 * at, and what it held (leases, exclusive key) is free. Errors: OPERATION_NOT_FOUND, OPERATION_NOT_INDETERMINATE.
 */
export async function abandonOperation(tx: Database, id: string, call: AuditedCall): Promise<void> {
  const row = (await lockOperation(tx, id)) ?? fail("OPERATION_NOT_FOUND", `there is no operation ${id}`);
  if (nextState(row.state, "abandon") === undefined) {
    fail("OPERATION_NOT_INDETERMINATE", `${id} is ${row.state.toLowerCase()}, not indeterminate`, { operation: id });
  }
  const { spec, kind } = parseSpec(row.spec);
  const failure = new Failure(
    "OPERATION_ABANDONED",
    `${call.principal} gave it up: nobody has looked how attempt ${lostAttempt(row)} ended`,
  );
  const leavings = [...row.leavings, `not looked at, may be there: ${kind.mayLeave(spec)}`];
  await failOperation(tx, { ...row, leavings }, "abandon", failureToDetail(failure));
  await writeAudit(tx, call, { id, name: row.kind, operationId: id });
}
