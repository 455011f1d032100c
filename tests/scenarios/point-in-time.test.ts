import { chown, mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { freePort } from "../support/free-port.ts";
import { type Installation, openInstallation, waitFor } from "../support/installation.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";
import { findPrograms } from "../support/programs.ts";
import { runProgram } from "../support/run-program.ts";
import { ask, asServer } from "../support/scenarios/restored-server.ts";
import { waitUntilKnown } from "../support/wal/known-time.ts";

const majors = [15, 18] as const;
const rows = "select count(*), md5(string_agg(t::text, '' order by t::text)) from orders t";

let installation: Installation;
const stack = new AsyncDisposableStack();
const servers = new Map<number, PostgresServer>();
/** What there was, and when. */
const known = new Map<number, { readonly moment: string; readonly before: string }>();

beforeAll(async () => {
  const open = async (major: number) => servers.set(major, stack.use(await openPostgresServer({ major })));
  [installation] = await Promise.all([openInstallation(), ...majors.map(open)]);
  stack.use(installation);
  await installation.addAgent("db7");
  const folder = join(installation.folder, "backups");
  await mkdir(folder);
  await installation.must(["repo", "add", "main", `db7:${folder}`, "--check"]);
});
afterAll(() => stack.disposeAsync());

test.each(majors)(
  "a table dropped by mistake on PostgreSQL %i is there again as it was a moment before",
  { timeout: 180_000 },
  async (major) => {
    const server = servers.get(major);
    if (!server) throw new Error("no server");
    const name = `shop${major}`;
    const query = async (sql: string) => (await server.sql("orders", sql)).trimEnd();
    await server.sql("postgres", "create database orders");
    await query("create table orders as select i as id, md5(i::text) from generate_series(1, 2000) i");
    const endpoint = `127.0.0.1:${server.port}`;
    await installation.must(["cluster", "add", name, "--host", "db7", "--endpoint", endpoint, "--password-stdin"], {
      input: server.password,
    });
    await installation.must(["cluster", "check", name]);
    await installation.must(["wal", "setup", name, "--to", "main", "--max-age", "2s"]);
    const status = () => installation.json<{ storedLsn: string }>(["wal", "status", name]);
    const isStored = (lsn: string) =>
      waitFor(`WAL is stored up to ${lsn}`, async () => {
        const { storedLsn } = await status();
        return storedLsn !== "" && (await query(`select '${storedLsn}'::pg_lsn >= '${lsn}'`)) === "t";
      });
    // WAL that is not worth a segment is stored only after a while.
    await isStored(await query("select pg_switch_wal()"));
    // Its WAL is left to the archive, where it is waited for, because there is one.
    const taken = await installation.must(["backup", "create", name, "--kind", "full"]);
    expect(taken).toMatch(/^ {2}WAL from [\dA-F/]+ to [\dA-F/]+, in the archive, consistent at its end$/m);
    const id = taken.slice(2, 32);
    expect(await installation.must(["backup", "get", id])).toMatch(/^WAL: +[\dA-F/]+ to [\dA-F/]+, in the archive$/m);
    expect(await installation.must(["backup", "verify", id, "--content"])).toMatch(
      /every digest matches, and all of it/,
    );
    const atEnd = await query(rows);

    await query("insert into orders select i, 'after the backup' from generate_series(3000, 3500) i");
    const before = await query(rows);
    await query("select pg_sleep(1.1)");
    const moment = await query(
      "select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00'",
    );
    known.set(major, { moment, before });
    await query("select pg_sleep(1.1)");
    await query("drop table orders");
    await isStored(await query("select pg_switch_wal()"));
    await waitUntilKnown(installation, name, moment);

    const parent = join(installation.folder, `restored${major}`);
    await mkdir(parent);
    if (process.getuid?.() === 0) await chown(parent, server.owner.uid, server.owner.gid);
    const directory = join(parent, "data");
    const port = await freePort();
    const place = ["--at", moment, "--to", `db7:${directory}`, "--start", "--port", String(port)];
    try {
      const plan = await installation.must(["restore", "plan", name, ...place]);
      expect(plan).toContain("can be restored into");
      const said = await installation.must(["restore", "create", name, ...place]);
      expect(said).toContain(`✓ ${name} is restored in db7:${directory}: `);
      expect(await ask(server, port, "orders", rows)).toBe(before);
      expect(await ask(server, port, "orders", "select pg_is_in_recovery(), current_setting('archive_mode')")).toBe(
        "f|off",
      );
      // Without --start its WAL comes out of the archive into the directory, and no further.
      const alone = join(parent, "alone");
      const there = ["--backup", id, "--to", `db7:${alone}`];
      const refused = await installation.coppice(["restore", "create", name, ...there]);
      expect(refused.stderr).toMatch(/^ {2}next: .*--immediate$/m);
      await installation.must(["restore", "create", name, ...there, "--immediate"]);
      await asServer(server, "pg_ctl", ["-D", directory, "-m", "immediate", "-w", "stop"]);
      try {
        await asServer(server, "pg_ctl", ["-D", alone, "-o", `-p ${port}`, "-l", `${alone}.log`, "-w", "start"]);
        expect(await ask(server, port, "orders", rows)).toBe(atEnd);
      } finally {
        await asServer(server, "pg_ctl", ["-D", alone, "-m", "immediate", "-w", "stop"]);
      }
    } finally {
      await asServer(server, "pg_ctl", ["-D", directory, "-m", "immediate", "-w", "stop"]);
    }
  },
);

test("an archived segment that is damaged is found, and what was lost by it can be reached no more until it is back", async () => {
  const name = "shop18";
  const file = await newestSegment();
  const good = await readFile(file);
  const sound = await installation.must(["wal", "verify", name]);
  expect(sound).toMatch(/^✓ WAL of shop18 in main verified: \d+ objects, .* re-read in /);
  expect(sound).toMatch(/^ {2}.* of WAL, the checksums of \d+ records match$/m);
  // Without any time that is known it says positions, which are no dates.
  const reachesUntil = async () => {
    const status = await installation.must(["wal", "status", name]);
    return Date.parse(/^recovery can reach \S+ to (\S+Z) on timeline 1/m.exec(status)?.[1] ?? "") || 0;
  };
  const before = await reachesUntil();
  await rm(file);
  await writeFile(file, good.subarray(0, good.length >> 1));
  try {
    const { code, stderr } = await installation.coppice(["wal", "verify", name]);
    expect(code).toBe(1);
    expect(stderr).toMatch(/lost: [\dA-F/]+ to [\dA-F/]+ on timeline 1$/m);
    expect(stderr).toMatch(/safe: recovery can reach /);
    expect(await reachesUntil()).toBeLessThan(before);
  } finally {
    await writeFile(file, good);
  }
  await installation.must(["wal", "verify", name]);
  // Meanwhile it has gone on.
  expect(await reachesUntil()).toBeGreaterThanOrEqual(before);
});

/** The newest whole segment that is stored of the newer server. */
async function newestSegment(): Promise<string> {
  const system = (await servers.get(18)?.sql("postgres", "select system_identifier from pg_control_system()")) ?? "";
  const root = join(installation.folder, "backups");
  const names = await readdir(root, { recursive: true });
  const own = names.filter((path) => path.includes(`/${system.trim()}/`) && /\/[0-9A-F]{24}$/.test(path));
  return join(root, own.toSorted().at(-1) ?? "");
}

test.each(majors)(
  "with neither control plane nor agent running, the agent's program alone brings back the same of PostgreSQL %i",
  { timeout: 180_000 },
  async (major) => {
    const server = servers.get(major);
    const { moment, before } = known.get(major) ?? {};
    if (!server || moment === undefined) throw new Error("nothing was lost");
    for (const lost of [installation.agent("db7"), installation.controlPlane()]) await lost.end("SIGTERM");
    const parent = join(installation.folder, `alone${major}`);
    await mkdir(parent);
    if (process.getuid?.() === 0) await chown(parent, server.owner.uid, server.owner.gid);
    const directory = join(parent, "data");
    const port = await freePort();
    const repository = join(installation.folder, "backups");
    const words = [`shop${major}`, "--repo", repository, "--into", directory, "--at", moment, "--start"];
    const args = ["restore-directory", ...words, "--port", String(port)];
    try {
      const { code, stderr } = await runProgram(findPrograms().agent, args, { env: process.env });
      expect({ code, stderr }).toEqual({ code: 0, stderr: expect.not.stringContaining("✗") as unknown });
      expect(await ask(server, port, "orders", rows)).toBe(before);
    } finally {
      await asServer(server, "pg_ctl", ["-D", directory, "-m", "immediate", "-w", "stop"]);
    }
  },
);
