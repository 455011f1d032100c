import { expect, test } from "vitest";
import { nearestPoints } from "./nearest-points.ts";

const window = {
  systemIdentifier: "7",
  timeline: 1,
  timelines: [1],
  startLsn: 100n,
  backups: ["bkp_a"],
  backupTimeUs: 100n,
};

test("the end of a backup is told by a time where archived WAL leads on from it, be that a little later", () => {
  const own = { ...window, walRepository: undefined, endLsn: 100n, times: [] };
  const archived = { ...window, walRepository: "rep_1", endLsn: 900n, times: [{ startUs: 101n, endUs: 300n }] };
  const tooEarly = { kind: "time", timeUs: 50n } as const;
  expect(nearestPoints([own, archived], tooEarly).after).toMatchObject({ timeUs: 101n, backup: undefined });
  expect(nearestPoints([own], tooEarly).after).toMatchObject({ timeUs: undefined, backup: "bkp_a" });
});
