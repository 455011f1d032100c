import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { zstdCompressSync } from "node:zlib";
import { expect, onTestFinished, test } from "vitest";
import { checkRecoverTimeline, checkRecoverTo, takenTimelinesStep } from "./recipe-archive.ts";

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

test("a time is refused where the archive has later timelines, until one of them is named", async () => {
  const wal = await mkdtemp(join(tmpdir(), "coppice-recipe-"));
  const commands = `set -euo pipefail\n${checkRecoverTimeline({ systemIdentifier: "7", timeline: 10 })}\nprintf fine`;
  const choose = (env: NodeJS.ProcessEnv) => {
    const all = { WAL: wal, ...env };
    try {
      return execFileSync("bash", ["-c", commands], { encoding: "utf8", env: all, stdio: "pipe" });
    } catch (error) {
      return error instanceof Error && "stderr" in error ? String(error.stderr) : "";
    }
  };
  const time = { RECOVER_TO: "2026-11-21 14:03:07+01" };
  expect(choose(time)).toBe("fine");
  await mkdir(join(wal, "history"));
  for (const name of ["00000009", "0000000A"]) await writeFile(join(wal, "history", `${name}.history`), "");
  expect(choose(time)).toBe("fine");
  for (const name of ["0000000B", "0000000C"]) await writeFile(join(wal, "history", `${name}.history`), "");
  expect(choose(time)).toContain("began after this backup, which is of 10: 11 12. Set RECOVER_TIMELINE");
  for (const chosen of [{ ...time, RECOVER_TIMELINE: "10" }, { RECOVER_TO: "latest" }, {}])
    expect(choose(chosen)).toBe("fine");
  expect(choose({ RECOVER_TIMELINE: "10" })).toContain("RECOVER_TO says nothing");
  expect(choose({ ...time, RECOVER_TIMELINE: "0x1" })).toContain("no number of a timeline: 0x1");
  await rm(wal, { recursive: true });
});

test("a backup with its own WAL is given the timelines that are taken, where there is an archive that can be read", () => {
  const folder = mkdtempSync(join(tmpdir(), "coppice-taken-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const [cwd, history, wal] = [join(folder, "backups/b"), join(folder, "wal/7/history"), join(folder, "data/pg_wal")];
  for (const path of [cwd, wal]) mkdirSync(path, { recursive: true });
  const run = () =>
    execFileSync("bash", ["-c", `set -euo pipefail\n${takenTimelinesStep({ systemIdentifier: "7" })} 2>&1`], {
      cwd,
      encoding: "utf8",
      env: { PATH: process.env["PATH"], PGDATA: join(folder, "data") },
    });
  expect(run()).toBe("");
  mkdirSync(history, { recursive: true });
  const text = "1\t0/5000000\tno recovery target specified\n";
  for (const name of ["00000002.history", "00000003.history"])
    writeFileSync(join(history, name), zstdCompressSync(text));
  writeFileSync(join(history, "00000004.history"), "torn");
  writeFileSync(join(history, "000000010000000000000002.00000028.backup"), zstdCompressSync("none"));
  writeFileSync(join(wal, "00000003.history"), "its own");
  expect(run()).toContain("00000004.history cannot be read: the server may end its recovery on a timeline");
  expect(readdirSync(wal)).toEqual(["00000002.history", "00000003.history"]);
  expect(["2", "3"].map((one) => readFileSync(join(wal, `0000000${one}.history`), "utf8"))).toEqual([text, "its own"]);
});
