// One thing: which timeline was written at a time that lies where a newer one begins, when little is known of it.
import { expect, test } from "vitest";
import { planRecovery } from "./plan.ts";
import type { RecoveryInput } from "./recovery-input.ts";

const segmentBytes = 16n << 20n;
const at = (page: number) => segmentBytes + BigInt(page) * 65_536n;

// Timeline 1 was written until 700; it was recovered to 45, which was at 400, and timeline 2 goes on from there since 900.
const left: RecoveryInput = {
  systemIdentifier: "7",
  segmentBytes,
  backups: [
    {
      id: "bkp_a",
      repository: "rep_1",
      systemIdentifier: "7",
      method: "full",
      complete: true,
      state: "STORED",
      timeline: 1,
      startLsn: at(0),
      stopLsn: at(1),
      startTimeUs: 1n,
      stopTimeUs: 10n,
      walEmbedded: false,
      storedBytes: 1n,
    },
  ],
  extents: [
    { repository: "rep_1", systemIdentifier: "7", timeline: 1, startLsn: segmentBytes, endLsn: at(60) },
    { repository: "rep_1", systemIdentifier: "7", timeline: 2, startLsn: segmentBytes, endLsn: 3n * segmentBytes },
  ],
  histories: [{ timeline: 2, ancestors: [{ timeline: 1, endLsn: at(45), reason: "" }] }],
  anchors: [
    { timeline: 1, timeUs: 20n, lsn: at(2) },
    { timeline: 1, timeUs: 400n, lsn: at(45) },
  ],
  commits: [],
};
const written = (timeUs: bigint, known: Partial<RecoveryInput>) => {
  const plan = planRecovery({ ...left, ...known }, { kind: "time", timeUs });
  if (plan.kind === "unreachable") throw new Error(plan.message);
  return { timelines: plan.timelines, codes: plan.warnings.map(({ code }) => code), warnings: plan.warnings };
};

test("a timeline of which no time behind the switch is left, but WAL, was written on: nobody knows until when", () => {
  const anchors = [...left.anchors, { timeline: 2, timeUs: 970n, lsn: at(200) }];
  const plan = written(600n, { anchors });
  expect([plan.timelines, plan.codes]).toEqual([
    [1, 2],
    ["later-commit-unknown", "time-of-other-timeline"],
  ]);
  expect(plan.warnings.at(-1)?.message).toMatch(/timeline 1 still, or timeline 2 already, .* is not known/);
  const ended = left.extents.map((extent) => (extent.timeline === 1 ? { ...extent, endLsn: at(45) } : extent));
  expect(written(600n, { anchors, extents: ended }).codes).toEqual(["later-commit-unknown"]);
});

test("a newer timeline of which only the segment of the switch is known had not begun before what was written meanwhile", () => {
  const anchors = [
    ...left.anchors,
    { timeline: 1, timeUs: 600n, lsn: at(55) },
    { timeline: 1, timeUs: 700n, lsn: at(60) },
  ];
  const commits = [
    { timeline: 2, startLsn: segmentBytes, endLsn: 2n * segmentBytes, times: { earliestUs: 50n, latestUs: 990n } },
  ];
  expect(written(650n, { anchors, commits })).toMatchObject({
    timelines: [1],
    codes: ["later-commit-unknown", "timeline-of-time"],
  });
  // Nobody knows when between 700 and 970 it began.
  const later = [...anchors, { timeline: 2, timeUs: 970n, lsn: at(200) }];
  expect(written(950n, { anchors: later, commits }).warnings.at(-1)?.message).toContain("is not known");
});
