import { fromJson, type JsonValue, toJson } from "@bufbuild/protobuf";
import { type OperationProgress, OperationProgressSchema } from "@coppice/proto/gen/coppice/control/v1/operation";
import type { Database } from "../../catalog/catalog.ts";
import { changeOperation, lockOperation } from "../../catalog/operations/change.ts";
import { listChildren } from "../../catalog/operations/read.ts";
import type { OperationRow } from "../../catalog/operations/row.ts";
import { computeGroupProgress } from "../progress.ts";
import { isTerminal } from "../states.ts";

/** How far a group is by its operations, as the catalog keeps it. */
export function groupProgressOf(children: readonly OperationRow[]): JsonValue {
  const done = children.filter(({ state }) => state === "SUCCEEDED").length;
  const current = children.find(({ state, progress }) => !isTerminal(state) && progress !== null);
  return toJson(OperationProgressSchema, computeGroupProgress(done, children.length, parse(current?.progress)));
}

/** Notes for the group how far one of its operations is. It is no change of state, so nobody's transaction waits for it. */
export async function noteGroupProgress(tx: Database, groupId: string): Promise<void> {
  const group = await lockOperation(tx, groupId);
  if (group === undefined) return;
  const progress = groupProgressOf(await listChildren(tx, groupId));
  await changeOperation(tx, { id: groupId, states: ["RUNNING", "CANCELLING"] }, { progress });
}

function parse(json: JsonValue | null | undefined): OperationProgress | undefined {
  return json ? fromJson(OperationProgressSchema, json, { ignoreUnknownFields: true }) : undefined;
}
