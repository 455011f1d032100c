/**
 * What can happen to an operation.
 * - claim: a dispatcher makes it an attempt and sends the command
 * - begin: it is a group, and the first of its children has begun
 * - accept: the agent has journaled the command and begins
 * - succeed, fail, stop: it is over, and known to be (stop: cancelled)
 * - requestCancel: somebody asks for its end
 * - lose: nobody can say how the attempt ended
 * - settle: an attempt to find that out is sent
 * - requeue: the attempt is known to have come to nothing, and another one may be made
 * - abandon: somebody gives up finding out
 */
export type OperationEvent =
  | "claim"
  | "begin"
  | "accept"
  | "succeed"
  | "fail"
  | "stop"
  | "requestCancel"
  | "lose"
  | "settle"
  | "requeue"
  | "abandon";

/** Every state, in the order of a life. */
export const operationStates = [
  "QUEUED",
  "DISPATCHED",
  "RUNNING",
  "CANCELLING",
  "INDETERMINATE",
  "SUCCEEDED",
  "FAILED",
  "CANCELLED",
] as const;

/** State of an operation, as OperationState of the API spells it. */
export type OperationStateName = (typeof operationStates)[number];

/** Every event. */
export const operationEvents = [
  "claim",
  "begin",
  "accept",
  "succeed",
  "fail",
  "stop",
  "requestCancel",
  "lose",
  "settle",
  "requeue",
  "abandon",
] as const satisfies readonly OperationEvent[];

type Transitions = Readonly<Partial<Record<OperationEvent, OperationStateName>>>;

const transitions: Readonly<Record<OperationStateName, Transitions>> = {
  // It never left the catalog: a cancel needs nobody's answer, and success is out of reach.
  QUEUED: { claim: "DISPATCHED", begin: "RUNNING", fail: "FAILED", stop: "CANCELLED" },
  DISPATCHED: {
    accept: "RUNNING",
    succeed: "SUCCEEDED",
    fail: "FAILED",
    stop: "CANCELLED",
    requestCancel: "CANCELLING",
    lose: "INDETERMINATE",
    requeue: "QUEUED",
  },
  RUNNING: {
    succeed: "SUCCEEDED",
    fail: "FAILED",
    stop: "CANCELLED",
    requestCancel: "CANCELLING",
    lose: "INDETERMINATE",
    requeue: "QUEUED",
  },
  // The work may be done before the cancel arrives. What was cancelled is never tried again.
  CANCELLING: { accept: "CANCELLING", succeed: "SUCCEEDED", fail: "FAILED", stop: "CANCELLED", lose: "INDETERMINATE" },
  // Only a look at what is there ends it, or somebody who answers for not looking. A look can itself be lost.
  INDETERMINATE: {
    settle: "INDETERMINATE",
    succeed: "SUCCEEDED",
    fail: "FAILED",
    stop: "CANCELLED",
    requestCancel: "INDETERMINATE",
    lose: "INDETERMINATE",
    requeue: "QUEUED",
    abandon: "FAILED",
  },
  SUCCEEDED: {},
  FAILED: {},
  CANCELLED: {},
};

/** The state after the event; undefined when the event cannot happen in that state. */
export function nextState(state: OperationStateName, event: OperationEvent): OperationStateName | undefined {
  return transitions[state][event];
}

/** The states in which the event can happen. */
export function statesBefore(event: OperationEvent): OperationStateName[] {
  return operationStates.filter((state) => nextState(state, event) !== undefined);
}

/** Whether the operation has ended: nothing happens to it any more. */
export function isTerminal(state: OperationStateName): boolean {
  return Object.keys(transitions[state]).length === 0;
}

/**
 * How a group whose children are in these states ends: once all of them have ended, and only well when each of them has.
 * Undefined while one has not; one of unknown outcome keeps its group open.
 */
export function groupEnd(children: readonly OperationStateName[]): "succeed" | "fail" | "stop" | undefined {
  if (!children.every(isTerminal)) return undefined;
  if (children.includes("FAILED")) return "fail";
  return children.includes("CANCELLED") ? "stop" : "succeed";
}
