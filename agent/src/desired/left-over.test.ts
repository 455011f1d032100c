import { create } from "@bufbuild/protobuf";
import { type DesiredState, DesiredStateSchema } from "@coppice/proto/gen/coppice/agent/v1/desired_state";
import { expect, test } from "vitest";
import { slotOf } from "../wal/receive/slot-name.ts";
import { dueOf, leftOver, type Withdrawal } from "./left-over.ts";

type Slot = { readonly slot: string; readonly server?: string };
type Step = Slot | { readonly endedFor: Slot } | "moved" | "ended";

function stateOf(step: Step, revision: bigint): DesiredState {
  const id = "cls_1";
  const about = { clusterId: id, systemIdentifier: "7" };
  if (step === "ended") return create(DesiredStateSchema, { revision, last: true, ended: [{ id, revision }] });
  if (typeof step === "object" && "endedFor" in step) {
    const { slot, server = "7" } = step.endedFor;
    const successor = { systemIdentifier: server, slot };
    return create(DesiredStateSchema, { revision, last: true, ended: [{ id, revision, successor }] });
  }
  if (step === "moved") {
    const desired = { case: "walEnd" as const, value: { ...about, number: 9n } };
    return create(DesiredStateSchema, { revision, last: true, entries: [{ id, desired }] });
  }
  const { slot, server = "7" } = step;
  const value = { ...about, systemIdentifier: server, settings: { slot } };
  const desired = { case: "walArchive" as const, value };
  return create(DesiredStateSchema, { revision, last: true, entries: [{ id, desired }] });
}

/** Slots that are withdrawn after the last of these states. */
function dueAfter(steps: readonly Step[]): string[] {
  let held = { state: create(DesiredStateSchema), withdrawals: [] as Withdrawal[] };
  for (const [index, step] of steps.entries()) {
    const state = stateOf(step, BigInt(index + 1));
    held = { state, withdrawals: leftOver(held, state) };
  }
  return dueOf(held.withdrawals)
    .map(({ archive }) => slotOf(archive))
    .toSorted();
}

const usual = { slot: "" };
const mine = { slot: "mine" };

test.each<[string, readonly Step[], readonly string[]]>([
  ["ended", [usual, "ended"], ["coppice_cls_1"]],
  ["ended twice: the server is gone", [usual, "ended", "ended"], []],
  ["ended while another agent archives by the slot", [usual, { endedFor: { slot: "coppice_cls_1" } }], []],
  ["ended, and taken up by the slot", [mine, "ended", { endedFor: mine }], []],
  ["ended, and taken up by another slot", [mine, "ended", { endedFor: usual }], ["mine"]],
  ["ended, and of another server archived since", [mine, "ended", { endedFor: { ...mine, server: "8" } }], ["mine"]],
  ["by another slot", [mine, usual], ["mine"]],
  ["by another slot, and ended", [mine, usual, "ended"], ["coppice_cls_1", "mine"]],
  ["moved: another agent goes on with the slot", [mine, usual, "moved"], []],
  ["moved, and ended before that agent came", [mine, usual, "moved", "ended"], ["coppice_cls_1", "mine"]],
  ["moved, ended, and ended once more", [usual, "moved", "ended", "ended"], []],
  ["moved, and back", [usual, "moved", usual], []],
  ["moved, and back by another slot", [mine, "moved", usual], ["mine"]],
])("%s", (_, steps, slots) => {
  expect(dueAfter(steps)).toEqual(slots);
});
