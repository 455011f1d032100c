import { appendFile, mkdir, mkdtemp, readdir, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { readServerLog, removeServerTraces } from "./server.ts";

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
