import { expect, test } from "vitest";
import type { RecoveryWindow } from "@coppice/proto/kit/recovery/windows";
import { windowMessages } from "./recovery-window.ts";

const stretch = (timeline: number, startLsn: bigint, endLsn: bigint, more: Partial<RecoveryWindow> = {}) => ({
  systemIdentifier: "7",
  timeline,
  timelines: [timeline],
  walRepository: "rep_a",
  startLsn,
  endLsn,
  times: [],
  backups: ["bkp_a"],
  backupTimeUs: 0n,
  ...more,
});

test("stretches of a timeline are one window with gaps, those that overlap in two repositories none", () => {
  const windows = windowMessages([
    stretch(2, 0x60n, 0x70n, { times: [{ startUs: 5_000_000n, endUs: 6_000_001n }] }),
    stretch(1, 0x10n, 0x30n, { times: [{ startUs: 1_000_000n, endUs: 2_000_000n }] }),
    stretch(1, 0x50n, 0x58n, { times: [{ startUs: 3_000_000n, endUs: 4_000_000n }] }),
    stretch(1, 0x20n, 0x40n, { walRepository: "rep_b" }),
  ]);
  expect(windows).toMatchObject([
    {
      timeline: 1,
      startLsn: "0/10",
      endLsn: "0/58",
      startTime: { seconds: 1n },
      endTime: { seconds: 4n },
      gaps: [{ startLsn: "0/40", endLsn: "0/50" }],
    },
    { timeline: 2, startLsn: "0/60", endLsn: "0/70", endTime: { seconds: 6n, nanos: 1000 }, gaps: [] },
  ]);
});

test("a backup whose WAL is inside it makes no window", () => {
  expect(windowMessages([stretch(1, 0x10n, 0x10n, { walRepository: undefined })])).toEqual([]);
});
