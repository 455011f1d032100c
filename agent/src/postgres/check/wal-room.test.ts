import { CheckStatus } from "@coppice/proto/gen/coppice/common/v1/check";
import { expect, test } from "vitest";
import { judgeWalRoom } from "./wal-room.ts";

const gib = 1024n ** 3n;

test("room for WAL is measured by what slots may keep, else by two checkpoints, at least a gibibyte", () => {
  const judge = (free: bigint, maxWal: bigint, limit?: bigint) =>
    judgeWalRoom({ where: "pg_wal", freeBytes: free, maxWalBytes: maxWal, slotLimitBytes: limit }).status;
  expect(judge(2n * gib, gib)).toBe(CheckStatus.OK);
  expect(judge(2n * gib - 1n, gib)).toBe(CheckStatus.WARNING);
  expect(judge(gib - 1n, 1n)).toBe(CheckStatus.WARNING);
  expect(judge(gib, 1n)).toBe(CheckStatus.OK);
  expect(judge(8n * gib, gib, 9n * gib)).toBe(CheckStatus.WARNING);
  expect(judge(9n * gib, gib, 9n * gib)).toBe(CheckStatus.OK);
});

test("room that cannot be seen is no trouble and no promise", () => {
  const { status, message } = judgeWalRoom({
    where: "pg_wal",
    freeBytes: undefined,
    maxWalBytes: gib,
    slotLimitBytes: undefined,
  });
  expect([status, message]).toEqual([CheckStatus.OK, expect.stringContaining("cannot be seen")]);
});
