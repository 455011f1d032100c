import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { OperationSchema, OperationState } from "@coppice/proto/gen/coppice/control/v1/operation";
import { expect, test } from "vitest";
import { formatOutcome } from "./outcome.ts";
import { formatSetback } from "./setback.ts";

const paint = (_style: string, text: string) => text;
const now = new Date("2026-11-21T12:00:00Z");
const operationOf = (init: MessageInitShape<typeof OperationSchema>) =>
  create(OperationSchema, {
    id: "op_1",
    hostName: "db7",
    startTime: timestampFromDate(new Date(now.getTime() - 10_000)),
    endTime: timestampFromDate(now),
    ...init,
  });

test("a verified backup says what was read with it, and how fast", () => {
  const operation = operationOf({
    state: OperationState.SUCCEEDED,
    spec: { case: "verifyBackup", value: { content: true } },
    result: {
      case: "verifiedBackup",
      value: { backup: "bkp_c", objects: 21, bytes: 3_000_000_000n, parents: ["bkp_a", "bkp_b"] },
    },
  });
  expect(formatOutcome(operation, { paint, now })).toBe(
    "✓ bkp_c verified with the 2 backups that it builds on: 21 objects, 3 GB re-read in 10 s, 300 MB/s, every digest matches, and all of it was decoded and parsed\n" +
      "  next: coppice backup recipe bkp_c\n",
  );
});

test("verified WAL says what was compared and what was not looked at", () => {
  const operation = operationOf({
    state: OperationState.SUCCEEDED,
    spec: { case: "verifyWal", value: { clusterName: "shop", repositoryName: "main" } },
    result: {
      case: "verifiedWal",
      value: { objects: 3, bytes: 10_000_000n, plainBytes: 50_000_000n, records: 1n, undecoded: 2, replacedParts: 1 },
    },
  });
  expect(formatOutcome(operation, { paint, now })).toBe(
    "✓ WAL of shop in main is there and can be read: 3 objects, 10 MB re-read in 10 s, 1 MB/s\n" +
      "  50 MB of WAL, the checksums of 1 record match\n" +
      "  ! 2 objects not looked into, encrypted: --content on a host that may decrypt\n" +
      "  1 part of segments not read: there is more of the segment, which was\n" +
      "  next: coppice wal status shop\n",
  );
});

test("damaged WAL is named with what is lost by it and what is left", () => {
  const operation = operationOf({
    state: OperationState.FAILED,
    spec: { case: "verifyWal", value: { clusterName: "shop", repositoryName: "main" } },
    failure: { reason: "CONTENT_UNREADABLE", message: "archived WAL in main is damaged", hint: "look" },
    result: {
      case: "verifiedWal",
      value: {
        objects: 3,
        bytes: 10_000_000n,
        problems: [
          {
            key: "a/b",
            message: "it is damaged",
            stretch: { timeline: 1, startLsn: "0/2000000", endLsn: "0/3000000" },
          },
          { message: "no object holds it" },
        ],
      },
    },
  });
  const { text, exitCode } = formatSetback(operation, paint, ["recovery can reach 0/1 to 0/2 on timeline 1"]);
  expect(text).toBe(
    "✗ op_1 failed on db7 (10 s): archived WAL in main is damaged\n" +
      "  next: look\n" +
      "  safe: recovery can reach 0/1 to 0/2 on timeline 1\n" +
      "  3 objects, 10 MB re-read in 10 s, 1 MB/s\n" +
      "  a/b: it is damaged; lost: 0/2000000 to 0/3000000 on timeline 1\n" +
      "  no object holds it\n",
  );
  expect(exitCode).toBe(1);
});
