import { expect, test } from "vitest";
import { groupEnd, isTerminal, nextState, operationEvents, operationStates, statesBefore } from "./states.ts";

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
      "begin → RUNNING",
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
      "begin → refused",
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
      "begin → refused",
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
      "begin → refused",
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
      "begin → refused",
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

test("a group ends with the last of its children, well only when all of them did", () => {
  for (const state of operationStates) {
    const expected = { SUCCEEDED: "succeed", FAILED: "fail", CANCELLED: "stop" }[state as string];
    expect(groupEnd([state]), state).toBe(expected);
    expect(groupEnd(["SUCCEEDED", state]), state).toBe(expected);
    expect(groupEnd(["CANCELLED", state]), state).toBe(expected === "succeed" ? "stop" : expected);
    expect(groupEnd(["FAILED", state, "CANCELLED"]), state).toBe(expected && "fail");
  }
});
