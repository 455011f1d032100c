import { expect, test } from "vitest";
import { isTerminal, nextState, operationEvents, operationStates, statesBefore } from "./states.ts";

const table = Object.fromEntries(
  operationStates.map((state) => [
    state,
    operationEvents.map((event) => `${event} → ${nextState(state, event) ?? "refused"}`),
  ]),
);

test("every event in every state gives the state that is written here, or is refused", () => {
  expect(table).toEqual({
    QUEUED: [
      "claim → DISPATCHED",
      "accept → refused",
      "succeed → refused",
      "fail → FAILED",
      "stop → CANCELLED",
      "requestCancel → refused",
      "lose → refused",
      "settle → refused",
      "requeue → refused",
      "abandon → refused",
    ],
    DISPATCHED: [
      "claim → refused",
      "accept → RUNNING",
      "succeed → SUCCEEDED",
      "fail → FAILED",
      "stop → CANCELLED",
      "requestCancel → CANCELLING",
      "lose → INDETERMINATE",
      "settle → refused",
      "requeue → QUEUED",
      "abandon → refused",
    ],
    RUNNING: [
      "claim → refused",
      "accept → refused",
      "succeed → SUCCEEDED",
      "fail → FAILED",
      "stop → CANCELLED",
      "requestCancel → CANCELLING",
      "lose → INDETERMINATE",
      "settle → refused",
      "requeue → QUEUED",
      "abandon → refused",
    ],
    CANCELLING: [
      "claim → refused",
      "accept → CANCELLING",
      "succeed → SUCCEEDED",
      "fail → FAILED",
      "stop → CANCELLED",
      "requestCancel → refused",
      "lose → INDETERMINATE",
      "settle → refused",
      "requeue → refused",
      "abandon → refused",
    ],
    INDETERMINATE: [
      "claim → refused",
      "accept → refused",
      "succeed → SUCCEEDED",
      "fail → FAILED",
      "stop → CANCELLED",
      "requestCancel → INDETERMINATE",
      "lose → INDETERMINATE",
      "settle → INDETERMINATE",
      "requeue → QUEUED",
      "abandon → FAILED",
    ],
    SUCCEEDED: operationEvents.map((event) => `${event} → refused`),
    FAILED: operationEvents.map((event) => `${event} → refused`),
    CANCELLED: operationEvents.map((event) => `${event} → refused`),
  });
});

test("exactly the ended states let nothing happen any more", () => {
  expect(operationStates.filter(isTerminal)).toEqual(["SUCCEEDED", "FAILED", "CANCELLED"]);
});

test("success is only reached from states in which a command was sent", () => {
  expect(statesBefore("succeed")).toEqual(["DISPATCHED", "RUNNING", "CANCELLING", "INDETERMINATE"]);
});

test("from every state an end can be reached", () => {
  for (const start of operationStates) {
    const seen = new Set([start]);
    for (const state of seen) {
      for (const event of operationEvents) {
        const next = nextState(state, event);
        if (next !== undefined) seen.add(next);
      }
    }
    expect([...seen].some(isTerminal), start).toBe(true);
  }
});
