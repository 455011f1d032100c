// One thing: what is promised of the backup of a standby that was behind its primary when it was taken.
import { expect, test } from "vitest";
import { planRecovery } from "./plan.ts";
import type { PhysicalBackup, RecoveryInput } from "./recovery-input.ts";
import { isSettledByRecovery } from "./resolve-target.ts";
import type { Target } from "./target.ts";

const segmentBytes = 1n << 20n;
const at = (sixteenths: number) => (segmentBytes * BigInt(sixteenths)) / 16n;

const backup = (id: string, other: Partial<PhysicalBackup>): PhysicalBackup => ({
  id,
  repository: "rep_1",
  systemIdentifier: "7",
  method: "full",
  complete: true,
  state: "STORED",
  timeline: 1,
  startLsn: at(20),
  stopLsn: at(25),
  startTimeUs: 500n,
  stopTimeUs: 510n,
  walEmbedded: true,
  fromStandby: true,
  storedBytes: 1n,
  ...other,
});
const paused = backup("bkp_standby", {});
const primary = backup("bkp_primary", {
  startLsn: at(30),
  stopLsn: at(31),
  startTimeUs: 400n,
  stopTimeUs: 410n,
  fromStandby: false,
});
const planned = (target: Target, known: Partial<RecoveryInput>) => {
  const none = { systemIdentifier: "7", segmentBytes, extents: [], histories: [], anchors: [] };
  const plan = planRecovery({ ...none, backups: [paused], ...known }, target);
  if (plan.kind === "unreachable") throw new Error(plan.message);
  return plan;
};
const anchor = (timeUs: bigint, lsn: bigint) => ({ timeline: 1, timeUs, lsn });

test("its own time says nothing of what is there: without any other it is not known, and that is said", () => {
  const plan = planned({ kind: "immediate" }, {});
  expect([plan.completeUntilUs, plan.warnings.map(({ code }) => code)]).toEqual([undefined, ["time-unknown"]]);
  expect(plan.warnings.map(({ message }) => isSettledByRecovery(message))).toEqual([true]);
});

test("what is there is known by the last time that was seen at its end or before, and the clock is not doubted", () => {
  const until = (...anchors: RecoveryInput["anchors"]) => {
    const { completeUntilUs, warnings } = planned({ kind: "immediate" }, { anchors });
    return { completeUntilUs, warnings };
  };
  const behind = anchor(450n, at(25) + 64n);
  expect(until(anchor(90n, at(10)), anchor(100n, at(15)), behind)).toEqual({ completeUntilUs: 100n, warnings: [] });
  expect(until(anchor(100n, at(15)), anchor(200n, at(25)), behind)).toEqual({ completeUntilUs: 200n, warnings: [] });
  expect(until(behind)).toMatchObject({ completeUntilUs: undefined, warnings: [{ code: "time-unknown" }] });
});

test("the newest backup is the one that holds most, not the one that ended last", () => {
  const newest = (...backups: readonly PhysicalBackup[]) => planned({ kind: "immediate" }, { backups }).chain;
  expect(newest(paused, primary)).toEqual(["bkp_primary"]);
  expect(newest(primary, { ...paused, stopLsn: at(31) + 64n })).toEqual(["bkp_standby"]);
  // Promoted meanwhile: what the standby has of the old timeline is in the new one's backup too, unless it had gone on.
  const histories = [{ timeline: 2, ancestors: [{ timeline: 1, endLsn: at(28), reason: "" }] }];
  const promoted = { ...primary, timeline: 2 };
  const after = (stopLsn: bigint) =>
    planned({ kind: "immediate" }, { histories, backups: [{ ...paused, stopLsn }, promoted] }).chain;
  expect(after(at(28))).toEqual(["bkp_primary"]);
  expect(after(at(29))).toEqual(["bkp_standby"]);
});

test("a backup of a standby that stayed on an old timeline does not say that the server went on with it", () => {
  const histories = [{ timeline: 2, ancestors: [{ timeline: 1, endLsn: at(24), reason: "" }] }];
  const backups = [backup("bkp_old", { stopLsn: at(22), startTimeUs: 1n, stopTimeUs: 2n, fromStandby: false }), paused];
  const extent = { repository: "rep_1", systemIdentifier: "7", timeline: 2, startLsn: at(16), endLsn: at(40) };
  const anchors = [{ timeline: 2, timeUs: 300n, lsn: at(40) }];
  const plan = planned({ kind: "latest" }, { histories, backups, extents: [extent], anchors });
  expect([plan.timelines, plan.warnings]).toEqual([[1, 2], []]);
});
