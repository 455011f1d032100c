import { describe, expect, test } from "vitest";
import { openOutbox } from "./outbox.ts";

const progress = (commandId: string, doneBytes: bigint) =>
  ({ case: "progress", value: { commandId, work: { doneBytes } } }) as const;

describe("an outbox", () => {
  test("keeps only the latest progress of a command, at its place in the order", () => {
    let puts = 0;
    const outbox = openOutbox(() => puts++);
    outbox.put(progress("cmd_1", 1n));
    outbox.put({ case: "result", value: { commandId: "cmd_2" } });
    outbox.put(progress("cmd_1", 2n));
    expect(puts).toBe(3);
    expect([outbox.take(), outbox.take(), outbox.take()]).toEqual([
      progress("cmd_1", 2n),
      { case: "result", value: { commandId: "cmd_2" } },
      undefined,
    ]);
  });

  test("drops progress when it is full, and never a result", () => {
    const outbox = openOutbox(() => undefined);
    for (let number = 0; number < 5000; number++) outbox.put(progress(`cmd_${number}`, 1n));
    expect(outbox.size).toBe(1000);
    outbox.put({ case: "result", value: { commandId: "cmd_1" } });
    expect(outbox.size).toBe(1001);
  });
});
