import { expect, test } from "vitest";
import { planRecovery } from "./plan.ts";
import type { PhysicalBackup } from "./recovery-input.ts";

const backup = (id: string, state: PhysicalBackup["state"]): PhysicalBackup => ({
  id,
  repository: "rep_1",
  systemIdentifier: "7",
  method: "full",
  complete: true,
  state,
  timeline: 1,
  startLsn: 32n,
  stopLsn: 48n,
  startTimeUs: 90n,
  stopTimeUs: 100n,
  walEmbedded: true,
  storedBytes: 1000n,
});

test("of a backup that is named and cannot be used it is said why, and nothing of others or of WAL", () => {
  const backups = [backup("bkp_a", "DAMAGED"), backup("bkp_b", "DAMAGED"), backup("bkp_c", "STORED")];
  const known = { systemIdentifier: "7", segmentBytes: 16n, backups, extents: [], histories: [], anchors: [] };
  const plan = (id?: string) => planRecovery({ ...known, ...(id ? { backup: id } : {}) }, { kind: "latest" });
  expect(plan("bkp_b")).toMatchObject({
    reason: "backup-unusable",
    message: "backup bkp_b cannot be used: it is damaged",
  });
  expect(plan()).toMatchObject({ kind: "plan", chain: ["bkp_c"] });
  // Where another copy of it is sound that one is taken.
  backups.push({ ...backup("bkp_b", "STORED"), repository: "rep_2" });
  expect(plan("bkp_b")).toMatchObject({ kind: "plan", repository: "rep_2" });
});
