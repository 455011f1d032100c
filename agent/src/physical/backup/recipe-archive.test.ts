import { execFileSync } from "node:child_process";
import { expect, test } from "vitest";
import { checkRecoverTo } from "./recipe-archive.ts";

const script = `set -euo pipefail\n${checkRecoverTo}\nprintf %s "$RECOVER_TO"`;
const check = (time: string) =>
  execFileSync("bash", ["-c", script], { encoding: "utf8", env: { RECOVER_TO: time }, stdio: "pipe" });

test.each([
  ["", ""],
  ["latest", "latest"],
  ["2026-11-21T20:59:25.079248Z", "2026-11-21 20:59:25.079248+00"],
  ["2026-11-21 14:03:07+01", "2026-11-21 14:03:07+01"],
  ["2024-02-29 08:09 UTC", "2024-02-29 08:09+00"],
  ["2026-09-08 09:08:09.5 -03:30", "2026-09-08 09:08:09.5-03:30"],
])("RECOVER_TO=%j is written for the server as %j", (given, written) => {
  expect(check(given)).toBe(written);
});

test.each([
  "lastest",
  "2026-11-21 14:03:07",
  "2026-02-29 14:03Z",
  "2026-11-21 25:00Z",
  "2026-11-21 14:03 CST",
  "2026-11-21 14:03+01\n'",
])("RECOVER_TO=%j is refused before anything is unpacked", (given) => {
  expect(() => check(given)).toThrow("RECOVER_TO is neither empty, nor latest, nor a time with its offset");
});
