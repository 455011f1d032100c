import type { AgentMessage } from "../commands/reporter.ts";

/** Messages that wait for a session's stream: in order, bounded, and never making their writer wait. */
export interface Outbox {
  /** Adds a message; it takes the place of one that it makes out of date. When full, progress and log lines are dropped. */
  put(message: AgentMessage): void;
  /** Takes the oldest one. */
  take(): AgentMessage | undefined;
  readonly size: number;
}

const maxReplaceable = 1000;

/** An empty outbox; `onPut` is called after each message that was added. */
export function openOutbox(onPut: () => void): Outbox {
  const waiting = new Map<string, AgentMessage>();
  let count = 0;
  return {
    put(message) {
      const key = keyOf(message, count++);
      if (isReplaceable(message) && !waiting.has(key) && waiting.size >= maxReplaceable) return;
      waiting.set(key, message);
      onPut();
    },
    take() {
      for (const [key, message] of waiting) {
        waiting.delete(key);
        return message;
      }
      return undefined;
    },
    get size() {
      return waiting.size;
    },
  };
}

/** A session without these is only less to look at. What is left is bounded by the commands that the agent got. */
function isReplaceable({ case: name }: AgentMessage): boolean {
  return name === "progress" || name === "logChunk";
}

function keyOf(message: AgentMessage, number: number): string {
  switch (message.case) {
    case "accepted":
    case "progress":
    case "result":
      return `${message.case} ${message.value.commandId}`;
    case "logChunk":
      return `${message.case} ${message.value.operationId} ${message.value.fence?.number} ${message.value.firstLine}`;
    case "inventory":
      // Each page counts.
      return `${message.case} ${number}`;
    case "walReport":
      // A later one holds everything of an earlier one that was not acknowledged.
      return `${message.case} ${message.value.clusterId}`;
    case "hello":
    case "heartbeat":
    case "goodbye":
      return message.case;
  }
}
