import { parseLsn } from "../wal/lsn.ts";
import { expect, test } from "vitest";
import { formatTimelineHistory, parseTimelineHistory, type TimelineHistory } from "./timeline-history.ts";
import { leadsThrough, pieceAt, timelinePath } from "./timeline-path.ts";

const real =
  '1\t0/3000148\tno recovery target specified\n\n2\t0/5000000\tbefore 2024-05-06 07:08:09.123456+00\n\n10\t16/B374D848\tat restore point "x"\n';

const history = (timeline: number, ...ancestors: [number, bigint][]): TimelineHistory => ({
  timeline,
  ancestors: ancestors.map(([ancestor, endLsn]) => ({ timeline: ancestor, endLsn, reason: "" })),
});

test("a history as PostgreSQL writes it is read, and written as it was", () => {
  const parsed = parseTimelineHistory(11, real);
  expect(parsed.ancestors.map(({ timeline, endLsn }) => [timeline, endLsn])).toEqual([
    [1, parseLsn("0/3000148")],
    [2, parseLsn("0/5000000")],
    [10, parseLsn("16/B374D848")],
  ]);
  expect(parsed.ancestors[1]?.reason).toBe("before 2024-05-06 07:08:09.123456+00");
  expect(formatTimelineHistory(parsed)).toBe(real);
});

test("comments, blank lines, other white space, missing reasons and a missing last line end are read", () => {
  const content = "# written by hand\n\n  \t\n 1 0/3000148\r\n\t# more\n2\t0/5000000\t  a  reason \t";
  expect(parseTimelineHistory(3, content).ancestors).toEqual([
    { timeline: 1, endLsn: parseLsn("0/3000148"), reason: "" },
    { timeline: 2, endLsn: parseLsn("0/5000000"), reason: "a  reason" },
  ]);
  expect(parseTimelineHistory(2, "").ancestors).toEqual([]);
});

test.each([
  ["x\t0/1\treason", "line 1: it is not a timeline and a WAL position"],
  ["1", "line 1: it is not a timeline and a WAL position"],
  ["1\t03000148", "line 1: it is not a timeline and a WAL position"],
  ["1\t0/123456789\t", "line 1: it is not a timeline and a WAL position"],
  ["A\t0/1", "line 1: it is not a timeline and a WAL position"],
  ["-1\t0/1", "line 1: it is not a timeline and a WAL position"],
  ["1\t0/1\n0\t0/2", "line 2: 0 is not a timeline"],
  ["4294967296\t0/1", "line 1: 4294967296 is not a timeline"],
  ["2\t0/1\n\n2\t0/2", "line 3: timeline 2 does not follow the one before it"],
  ["3\t0/1\n2\t0/2", "line 2: timeline 2 does not follow the one before it"],
  ["5\t0/1", "line 1: timeline 5 is not older than 5"],
  ["\u0000\u0000\u0000", "line 1: it is not a timeline and a WAL position"],
])("the history %j is refused", (content, problem) => {
  expect(() => parseTimelineHistory(5, content)).toThrow(`history of timeline 5, ${problem}`);
});

test("a path goes through every ancestor up to where the next one began", () => {
  const path = timelinePath([history(2, [1, 100n]), history(5, [1, 100n], [2, 250n])], 5);
  expect(path).toEqual([
    { timeline: 1, startLsn: 0n, endLsn: 100n },
    { timeline: 2, startLsn: 100n, endLsn: 250n },
    { timeline: 5, startLsn: 250n, endLsn: undefined },
  ]);
  expect([99n, 100n, 249n, 250n].map((lsn) => pieceAt(path, lsn)?.timeline)).toEqual([1, 2, 2, 5]);
});

test("a timeline without a history began by itself", () => {
  expect(timelinePath([], 7)).toEqual([{ timeline: 7, startLsn: 0n, endLsn: undefined }]);
});

test("a timeline that recovery stopped short of is not on the path", () => {
  // Recovery followed timeline 2, which began at 100, and stopped at 60, still on timeline 1.
  expect(timelinePath([history(3, [1, 100n], [2, 60n])], 3)).toEqual([
    { timeline: 1, startLsn: 0n, endLsn: 60n },
    { timeline: 3, startLsn: 60n, endLsn: undefined },
  ]);
  expect(timelinePath([history(3, [1, 100n], [2, 100n])], 3).map(({ timeline }) => timeline)).toEqual([1, 3]);
});

test("what ends exactly where a timeline does is still on it, what begins there is on the next", () => {
  const path = timelinePath([history(2, [1, 100n])], 2);
  expect(leadsThrough(path, 1, 100n)).toBe(true);
  expect(leadsThrough(path, 1, 101n)).toBe(false);
  expect(leadsThrough(path, 2, 100n)).toBe(true);
  expect(leadsThrough(path, 2, 99n)).toBe(false);
  expect(leadsThrough(path, 3, 100n)).toBe(false);
});

test("a history file with comments and blank lines is read as PostgreSQL reads it", () => {
  const content = "1\t0/3000100\tno recovery target specified\n\n# note\n2\tA/B0\tbefore 2026\n";
  expect(parseTimelineHistory(3, content).ancestors).toEqual([
    { timeline: 1, endLsn: parseLsn("0/3000100"), reason: "no recovery target specified" },
    { timeline: 2, endLsn: parseLsn("A/B0"), reason: "before 2026" },
  ]);
});
