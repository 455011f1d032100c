import { create } from "@bufbuild/protobuf";
import { WalMode } from "@coppice/proto/gen/coppice/common/v1/wal_archive";
import { WalArchiveSchema } from "@coppice/proto/gen/coppice/control/v1/cluster";
import { expect, test } from "vitest";
import { describeLeftSlot } from "./left-slot.ts";

test("the slot that stays behind is named where WAL is received, and nowhere else", () => {
  const of = (settings?: { mode: WalMode; slot?: string }) =>
    describeLeftSlot(create(WalArchiveSchema, { cluster: "cls_01ab", ...(settings ? { settings } : {}) }));
  expect(of({ mode: WalMode.STREAM })).toContain("the slot coppice_cls_01ab until");
  expect(of({ mode: WalMode.STREAM, slot: "own" })).toContain("the slot own until");
  expect(of({ mode: WalMode.PUSH })).toBe("");
  expect(of()).toBe("");
});
