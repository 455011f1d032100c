import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { zstdCompressSync } from "node:zlib";
import { afterAll, beforeAll, expect, test } from "vitest";
import { chooseWayStep, keptOfFork } from "./recipe-timelines.ts";

const segment = (timeline: number, number: number) =>
  [timeline, Math.floor(number / 256), number % 256]
    .map((part) => part.toString(16).toUpperCase().padStart(8, "0"))
    .join("");
const partOf = (timeline: number, number: number) => `${segment(timeline, number)}.partial.0000000005000100`;

const physical = { startLsn: "0/FE000028", stopLsn: "0/FE000130", timeline: 1, walSegmentBytes: 16n << 20n };
const stepOf = (timeline: number, stopLsn = physical.stopLsn) =>
  `set -euo pipefail\n${chooseWayStep({ systemIdentifier: "7", physical: { ...physical, timeline, stopLsn } })}`;
let wal: string;
beforeAll(() => {
  wal = mkdtempSync(join(tmpdir(), "coppice-timelines-"));
});
afterAll(() => rmSync(wal, { recursive: true }));

/** What these commands say in front of an archive with these segments; timeline 2 left 1 in segment 257, and 3 left 2 at the start of 259. */
function run(names: readonly string[], commands: string, env: NodeJS.ProcessEnv, timeline = 1): string {
  rmSync(wal, { recursive: true });
  const history = "1\t1/1800000\tno recovery target specified\n";
  const later = `${history}\n2\t1/3000000\tno recovery target specified`;
  const files = [
    ...names.map((name) => [join(name.slice(0, 8), name.slice(0, 16), name), Buffer.alloc(0)] as const),
    ["history/00000002.history", zstdCompressSync(history)] as const,
    ["history/00000003.history", zstdCompressSync(later)] as const,
    ["history/00000005.history", zstdCompressSync("4\t1/1800000\tof another server\n")] as const,
  ];
  for (const [name, content] of files) {
    mkdirSync(dirname(join(wal, name)), { recursive: true });
    writeFileSync(join(wal, name), content);
  }
  const all = { PATH: process.env["PATH"], WAL: wal, RECOVER_TO: "latest", ...env };
  return execFileSync("bash", ["-c", `(${stepOf(timeline)}\n${commands}) 2>&1 || :`], { encoding: "utf8", env: all });
}

test("the way goes to the newest timeline, or the one that is chosen", () => {
  const way = (env: NodeJS.ProcessEnv) => run([], 'printf %s "$TIMELINES"', env);
  const end = 2n ** 63n - 1n;
  expect(way({})).toBe(`3 259 ${end}\n2 257 258\n1 0 257\n`);
  expect(way({ RECOVER_TIMELINE: "1" })).toBe(`1 0 ${end}\n`);
  expect(way({ RECOVER_TO: "" })).toBe("");
  expect(way({ RECOVER_TIMELINE: "7" })).toContain("the archive has no timeline 7");
  expect(way({ RECOVER_TIMELINE: "5" })).toContain("timeline 5 does not go on from this backup, which is of 1");
});

test("a backup whose own history is not in the archive is recovered along its timeline, or a newer one", () => {
  const way = (env: NodeJS.ProcessEnv, timeline: number) =>
    run([segment(8, 254)], 'printf "$target: %s" "$TIMELINES"', env, timeline);
  for (const env of [{}, { RECOVER_TIMELINE: "8" }]) expect(way(env, 8)).toBe(`current: 8 0 ${2n ** 63n - 1n}\n`);
  expect(way({}, 4)).toBe(`5: 5 257 ${2n ** 63n - 1n}\n4 0 257\n`);
  expect(way({ RECOVER_TIMELINE: "1" }, 8)).toContain("timeline 1 does not go on from this backup, which is of 8");
});

test("a backup that had not ended where a timeline left its own is not recovered to that", () => {
  const left = "timeline 3 left 1 at 1/1800000, before this backup ends at 1/1800008";
  expect(run([], stepOf(1, "1/1800008"), {})).toContain(left);
  expect(run([], stepOf(1, "1/1800000"), {})).toBe("");
  expect(run([], stepOf(1, "1/1800008"), { RECOVER_TIMELINE: "1" })).toBe("");
});

const whole = [segment(1, 254), segment(1, 255), segment(1, 256), segment(2, 257), segment(2, 258), segment(3, 259)];
test.each([
  ["nothing is missing", [...whole, partOf(3, 260)], ""],
  ["an older timeline goes on beside the way", [...whole, segment(1, 257), segment(1, 300)], ""],
  ["the segment of the fork is there as a part of the older one, too", [...whole, partOf(1, 257)], ""],
  ["only the older one has the segment of the fork", [...whole.slice(0, 3), partOf(1, 257)], ""],
  ["one is missing", whole.filter((name) => name !== segment(1, 255)), `${segment(1, 255)} ${segment(1, 256)}`],
  ["only later timelines go on", whole.slice(4).concat(whole.slice(0, 2)), `${segment(1, 256)} ${segment(2, 258)}`],
  [
    "a later timeline lacks its first",
    [...whole.slice(0, 3), segment(2, 258)],
    `${segment(2, 257)} ${segment(2, 258)}`,
  ],
  ["only a part is there", [segment(1, 254), partOf(1, 255), segment(1, 256)], `${segment(1, 255)} ${segment(1, 256)}`],
  ["a part lies behind", [segment(1, 254), partOf(1, 256)], `${segment(1, 255)} ${partOf(1, 256)}`],
])("a hole is told from the end where %s", (_what, names, expected) => {
  const [lacks, holds] = expected.split(" ");
  const said = run(names, "", {});
  expect(said.split(": the server")[0]).toBe(expected && `the archive lacks ${lacks}, and holds later WAL, ${holds}`);
});

test("what the server asks for behind the end of the way is no hole", () => {
  const asked = (name: string) => run([...whole, segment(1, 300)], `later_wal ${name} || echo none`, {});
  for (const name of [segment(3, 260), segment(1, 258), segment(4, 259), "00000004.history"])
    expect(asked(name)).toBe("none\n");
  expect(asked(segment(1, 255))).toBe(`${segment(1, 256)}\n`);
});

test("of an abandoned timeline the server is given what lies in front of the fork", () => {
  const asked = [segment(1, 256), segment(2, 257), segment(3, 259), "00000002.history"];
  const cut = [segment(1, 257), segment(2, 258)];
  const behind = [segment(1, 258), segment(2, 259)];
  const each = `for one in ${[...asked, ...cut, ...behind].join(" ")}; do`;
  const said = run(whole, `${each}\nset -- $one\n(${keptOfFork(physical)}\necho "kept $kept") || echo none\ndone`, {});
  const kept = ["", "", "", "", 8 << 20, 16 << 20].map((bytes) => `kept ${bytes}\n`);
  expect(said).toBe(`${kept.join("")}none\nnone\n`);
});
