import { fromJson, toJson } from "@bufbuild/protobuf";
import { type FailureDetail, FailureDetailSchema } from "@coppice/proto/gen/coppice/common/v1/failure";
import type { Database } from "../../catalog/catalog.ts";
import { changeOperation, lockChildren, lockOperation, type OperationChange } from "../../catalog/operations/change.ts";
import { notifyAgent } from "../../catalog/operations/notify.ts";
import type { OperationRow } from "../../catalog/operations/row.ts";
import type { GroupKind } from "../kinds/kind.ts";
import { forgetSecret } from "../ending/forget-secret.ts";
import { logChild, logGroup } from "./log.ts";
import { groupProgressOf } from "./progress.ts";
import { parseGroup, parseStored, resultToJson } from "../spec.ts";
import { groupEnd, isTerminal, nextState, type OperationEvent } from "../states.ts";

/**
 * Carries what has happened to an operation over to the group that it is in, if it is in one: to be called in the
 * transaction of each change of its state. A group has begun with the first of its operations; when one of them did not
 * succeed or the group was cancelled, the others are ended; with the last one the group ends.
 */
export async function followChild(tx: Database, child: OperationRow): Promise<void> {
  if (child.parentId === null) return;
  const parent = await lockOperation(tx, child.parentId);
  if (parent === undefined || isTerminal(parent.state)) return;
  await tellOf(tx, parent.id, parseGroup(parent.spec).kind, child);
  await settleGroup(tx, parent);
}

/** Asks for the end of a group that this transaction has locked: of all that has not ended in it. */
export async function cancelGroup(tx: Database, group: OperationRow): Promise<void> {
  const cancelled = await change(tx, group, { cancelTime: new Date() });
  await logGroup(tx, group.id, "a cancel was asked for");
  await settleGroup(tx, cancelled);
}

/**
 * Asks for the end of one operation that this transaction has locked and that has not ended: a queued one is cancelled
 * at once, any other once its agent has stopped. What is done about its group is the caller's.
 */
export async function requestEnd(
  tx: Database,
  row: OperationRow,
  reasons: { readonly queued: string; readonly sent: string },
): Promise<OperationRow> {
  const cancelTime = new Date();
  const event = row.state === "QUEUED" ? "stop" : "requestCancel";
  const state = stateAfter(row, event);
  const columns =
    state === "CANCELLED"
      ? { endTime: cancelTime, retryAt: null, stateReason: reasons.queued }
      : {
          stateReason:
            row.state === "INDETERMINATE"
              ? `${row.stateReason}; it was cancelled and is not tried again`
              : reasons.sent,
        };
  const changed = await change(tx, row, { state, cancelTime, ...columns });
  await forgetSecret(tx, changed);
  if (row.hostId !== null) await notifyAgent(tx, row.hostId);
  return changed;
}

async function settleGroup(tx: Database, group: OperationRow): Promise<void> {
  const { spec, kind } = parseGroup(group.spec);
  const children = await endRest(tx, { group, kind, children: await lockChildren(tx, group.id) });
  await freeNext(tx, children);
  const event = groupEnd(children.map(({ state }) => state));
  const begun = await begin(tx, group, children, event);
  const progress = groupProgressOf(children);
  if (event === undefined) {
    const isCancelling = begun.cancelTime !== null && begun.state === "RUNNING";
    await change(tx, begun, {
      progress,
      stateReason: reasonOf(children, kind),
      ...(isCancelling ? { state: stateAfter(begun, "requestCancel") } : {}),
    });
    return;
  }
  const failed = children.find(({ state }) => state === "FAILED");
  const ended = children.map((child) => ({
    spec: specOf(child),
    succeeded: child.state === "SUCCEEDED",
    result: resultOf(child),
  }));
  await change(tx, begun, {
    state: stateAfter(begun, event),
    endTime: new Date(),
    progress,
    leavings: children.flatMap(({ leavings }) => leavings),
    result: resultToJson(kind.conclude(spec, ended)),
    stateReason: event === "stop" ? "it was cancelled and has stopped" : "",
    ...(failed === undefined ? {} : failureOf(failed, kind)),
  });
  // Others may have waited for what it held.
  for (const hostId of new Set(children.flatMap((child) => child.hostId ?? []))) await notifyAgent(tx, hostId);
}

/** Tells in the log of a group what has become of one of its operations. */
async function tellOf(tx: Database, groupId: string, kind: GroupKind, row: OperationRow): Promise<void> {
  await logChild(tx, groupId, { kind, child: { row, spec: specOf(row), result: resultOf(row) } });
}

/** Whose turn it is does not say any more that it waits. */
async function freeNext(tx: Database, children: readonly OperationRow[]): Promise<void> {
  const done = new Set(children.flatMap(({ id, state }) => (state === "SUCCEEDED" ? [id] : [])));
  for (const child of children) {
    const isNext = child.state === "QUEUED" && child.attempt === 0 && done.has(child.afterId ?? "");
    if (isNext && child.stateReason !== "") await change(tx, child, { stateReason: "" });
  }
}

/** Where one did not succeed, or the group was cancelled, nothing further is begun. */
async function endRest(
  tx: Database,
  { group, kind, children }: { group: OperationRow; kind: GroupKind; children: readonly OperationRow[] },
): Promise<OperationRow[]> {
  const cause = children.find(({ state }) => state === "FAILED" || state === "CANCELLED");
  if (cause === undefined && group.cancelTime === null) return [...children];
  const name = cause?.state === "FAILED" ? kind.nameChild(specOf(cause)) : undefined;
  const reasons =
    name === undefined
      ? {
          queued: "it was cancelled before it was sent",
          sent: "a cancel was asked for; its agent has not answered yet",
        }
      : { queued: `not begun: ${name} failed`, sent: `stopped, for ${name} failed; its agent has not answered yet` };
  const after: OperationRow[] = [];
  for (const child of children) {
    const goesOn = !isTerminal(child.state) && child.cancelTime === null;
    if (!goesOn) {
      after.push(child);
      continue;
    }
    const asked = await requestEnd(tx, child, reasons);
    await tellOf(tx, group.id, kind, asked);
    after.push(asked);
  }
  return after;
}

/** A group whose operations have all ended before one was sent ends without having begun. */
async function begin(
  tx: Database,
  group: OperationRow,
  children: readonly OperationRow[],
  end: OperationEvent | undefined,
): Promise<OperationRow> {
  if (group.state !== "QUEUED") return group;
  const first = children.find(({ startTime }) => startTime !== null);
  const hasBegun = first !== undefined || children.some(({ state }) => state !== "QUEUED" && !isTerminal(state));
  if (!hasBegun && (end === undefined || nextState("QUEUED", end) !== undefined)) return group;
  return await change(tx, group, { state: stateAfter(group, "begin"), startTime: first?.startTime ?? new Date() });
}

function reasonOf(children: readonly OperationRow[], kind: GroupKind): string {
  const current = children.find(({ state }) => !isTerminal(state));
  if (current === undefined || current.stateReason === "" || current.attempt === 0) return "";
  return `${current.id} (${kind.nameChild(specOf(current))}): ${current.stateReason}`;
}

function failureOf(child: OperationRow, kind: GroupKind): OperationChange {
  if (child.failure === null) throw new Error(`operation ${child.id} has failed without saying why`);
  const why: FailureDetail = fromJson(FailureDetailSchema, child.failure, { ignoreUnknownFields: true });
  const message = `${kind.nameChild(specOf(child))}: ${why.message}`;
  // Its own id stays in it: that is where the log of the failure is.
  return { failure: toJson(FailureDetailSchema, { ...why, message }), stateReason: message };
}

function specOf(row: OperationRow) {
  const { spec } = parseStored(row.spec);
  if (spec.case === undefined) throw new TypeError("an operation is of a kind that this version does not know");
  return spec;
}

function resultOf({ result }: OperationRow) {
  const parsed = result === null ? undefined : parseStored(result).result;
  return parsed?.case === undefined ? undefined : parsed;
}

function stateAfter({ id, state }: OperationRow, event: OperationEvent) {
  const next = nextState(state, event);
  if (next === undefined) throw new Error(`${event} cannot happen to operation ${id}, which is ${state}`);
  return next;
}

async function change(tx: Database, row: OperationRow, columns: OperationChange): Promise<OperationRow> {
  const changed = await changeOperation(tx, { id: row.id, states: [row.state] }, columns);
  if (changed === undefined) throw new Error(`operation ${row.id} changed although it was locked`);
  return changed;
}
