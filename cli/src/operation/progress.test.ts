import { create } from "@bufbuild/protobuf";
import { OperationSchema, OperationState } from "@coppice/proto/gen/coppice/control/v1/operation";
import { expect, test } from "vitest";
import { formatProgress } from "./progress.ts";

test("a running operation shows phase, item, share, bytes, rate and the time left", () => {
  const operation = create(OperationSchema, {
    state: OperationState.RUNNING,
    progress: {
      work: {
        phase: "dumping",
        item: "orders",
        doneBytes: 310_000_000n,
        totalBytes: 1_200_000_000n,
        doneItems: 1,
        totalItems: 3,
      },
      percent: 25.8,
      bytesPerSecond: 21_000_000n,
      remaining: { seconds: 43n },
    },
  });
  expect(formatProgress(operation)).toBe("dumping orders  1/3  25 %  310 MB of 1.2 GB  21 MB/s  43 s left");
});

test("a running operation whose agent is away says so, instead of how far it once was", () => {
  const operation = create(OperationSchema, {
    state: OperationState.RUNNING,
    stateReason: "nobody knows how far it is until there is word from the agent of db7",
    progress: { work: { phase: "dumping", item: "orders" } },
  });
  expect(formatProgress(operation)).toBe(`running: ${operation.stateReason}`);
});

test("an operation that waits says for what", () => {
  const operation = create(OperationSchema, {
    state: OperationState.QUEUED,
    stateReason: "waits for agent of db7, lost 3 min ago",
  });
  expect(formatProgress(operation)).toBe("queued: waits for agent of db7, lost 3 min ago");
});
