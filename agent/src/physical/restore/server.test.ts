import { appendFile, mkdir, mkdtemp, readdir, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { lastLines, readServerLog, removeServerTraces, whyServerEnded } from "./server.ts";

const user = { name: "postgres", uid: 1, gid: 1, home: "/" };
const programs = { version: "18.1", folder: "/nowhere" };

test("what stood in a log before the server was started is not taken for its word", async () => {
  const data = await mkdtemp(join(tmpdir(), "coppice-server-log-"));
  try {
    const { signal } = new AbortController();
    const weekly = join(data, "log", "postgresql-Sat.log");
    await mkdir(join(data, "log"));
    await writeFile(weekly, 'LOG:  recovery stopping at restore point "old"\n');
    const place = { data, programs, user, signal, earlierLogs: new Map([[weekly, (await stat(weekly)).size]]) };
    await writeFile(join(data, "current_logfiles"), "stderr log/postgresql-Sat.log\n");
    expect(await readServerLog(place)).toBe("");
    await appendFile(weekly, "LOG:  redo starts\n");
    await writeFile(join(data, "restore.log"), "LOG:  starting\n");
    expect(await readServerLog(place)).toBe("LOG:  starting\nLOG:  redo starts\n");
  } finally {
    await rm(data, { recursive: true });
  }
});

test("what its source's server has left of itself does not come with a data directory", async () => {
  const data = await mkdtemp(join(tmpdir(), "coppice-server-log-"));
  try {
    for (const name of ["restore.log", "current_logfiles", "postmaster.pid", "postgresql.auto.conf.before-restore"])
      await writeFile(join(data, name), "");
    await writeFile(join(data, "postgresql.auto.conf"), "");
    await removeServerTraces(data);
    expect(await readdir(data)).toEqual(["postgresql.auto.conf"]);
  } finally {
    await rm(data, { recursive: true });
  }
});

test("why a server ended is its last fatal line, with what is wrong in its configuration before it, and no control characters", () => {
  const log = [
    '2026-11-20 12:00:00 UTC [7] LOG:  unrecognized configuration parameter "shared_bufers" in file "/d/postgresql.conf" line 3',
    '2026-11-20 12:00:00 UTC [7] FATAL:  configuration file "/d/postgresql.conf" contains errors',
    "",
  ].join("\n");
  expect(whyServerEnded(log)).toBe(
    'unrecognized configuration parameter "shared_bufers" in file "/d/postgresql.conf" line 3; configuration file "/d/postgresql.conf" contains errors',
  );
  expect(whyServerEnded('FATAL:  could not access file "x\u001b[2J"\nLOG:  shut down\n')).toBe(
    'could not access file "x [2J"',
  );
  expect(whyServerEnded("\n")).toBe("it said nothing");
  expect(lastLines(`one\ntwo\u0007\n\n${"x".repeat(400)}\n`, 2)).toEqual(["two ", "x".repeat(300)]);
});
