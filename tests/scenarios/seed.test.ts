// What every backup tool is asked first: rows, a full, more rows, an incremental, more rows, and then all tables are gone.
import { chown, mkdir } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { freePort } from "../support/free-port.ts";
import { type Installation, openInstallation, waitFor } from "../support/installation.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";
import { ask, asServer } from "../support/scenarios/restored-server.ts";

const majors = [15, 18] as const;
const counts = (label: string) =>
  `select count(*) from orders where label = '${label}' union all select count(*) from lines where label = '${label}'`;
const checksum = ["orders", "lines"]
  .map((table) => `select count(*), md5(string_agg(t::text, '' order by t::text)) from ${table} t`)
  .join(" union all ");

let installation: Installation;
const stack = new AsyncDisposableStack();
const servers = new Map<number, PostgresServer>();

beforeAll(async () => {
  const open = async (major: number) => {
    const settings = major >= 17 ? { summarize_wal: "on", wal_log_hints: "on" } : {};
    servers.set(major, stack.use(await openPostgresServer({ major, settings })));
  };
  [installation] = await Promise.all([openInstallation(), ...majors.map(open)]);
  stack.use(installation);
  await installation.addAgent("db7");
  const folder = join(installation.folder, "backups");
  await mkdir(folder);
  await installation.must(["repo", "add", "main", `db7:${folder}`, "--check"]);
});
afterAll(() => stack.disposeAsync());

test.each(majors)(
  "on PostgreSQL %i full and incremental each bring back what was there when they were taken, and nothing of later",
  { timeout: 180_000 },
  async (major) => {
    const server = servers.get(major);
    if (!server) throw new Error("no server");
    const isByWal = major < 17;
    const name = `seed${major}`;
    const query = async (sql: string) => (await server.sql("orders", sql)).trimEnd();
    const add = (label: string, from: number) =>
      query(
        `insert into orders select i, '${label}', md5(i::text) from generate_series(${from}, ${from + 999}) i;
         insert into lines select i, '${label}', md5(i::text) from generate_series(${from}, ${from + 1999}) i`,
      );
    await server.sql("postgres", "create database orders");
    await query(
      "create table orders (id int primary key, label text, text text); create table lines (id int primary key, label text, text text)",
    );
    await installation.must(
      ["cluster", "add", name, "--host", "db7", "--endpoint", `127.0.0.1:${server.port}`, "--password-stdin"],
      { input: server.password },
    );
    await installation.must(["cluster", "check", name]);
    const backup = ["backup", "create", name, "--kind"];
    const without = await installation.coppice([...backup, "incremental", "--method", "wal"]);
    expect(without.code).toBe(4);
    expect(without.stderr).toMatch(new RegExp(`^ {2}next: .*coppice wal setup ${name}; .*--kind full$`, "m"));
    if (isByWal) {
      await installation.must(["wal", "setup", name, "--to", "main", "--max-age", "2s"]);
      const switched = await query("select pg_switch_wal()");
      await waitFor("archiving has begun", async () => {
        const { storedLsn } = await installation.json<{ storedLsn: string }>(["wal", "status", name]);
        return storedLsn !== "" && (await query(`select '${storedLsn}'::pg_lsn >= '${switched}'`)) === "t";
      });
    }

    await add("early", 1);
    const atFull = await query(checksum);
    const full = (await installation.must([...backup, "full"])).slice(2, 32);
    await add("between", 10_000);
    const atIncremental = await query(checksum);
    const said = await installation.must([...backup, "incremental"]);
    const incremental = said.slice(2, 32);
    expect(said).toMatch(isByWal ? / {2}incremental, .* of WAL → / : / {2}incremental, .* → /);
    expect(said).toContain(`what has changed since ${full}`);
    await add("late", 20_000);
    await query("drop table orders, lines");

    const list = await installation.must(["backup", "list", "--cluster", name]);
    const stored = isByWal ? "[\\d.]+ [kM]?B WAL" : "[\\d.]+ [kM]?B";
    expect(list).toMatch(
      new RegExp(`^${full} +${name} +full .*\n└${incremental} +${name} +incr .* ${stored} +good `, "m"),
    );
    const shown = await installation.must(["backup", "get", incremental]);
    expect(shown).toMatch(new RegExp(`^parent: +${full}$`, "m"));
    expect(shown).toMatch(
      isByWal ? /^ends at: +the restore point coppice_bkp_\w{26}_\w+, by replay$/m : /^format: +zstd$/m,
    );
    for (const id of [full, incremental])
      expect(await installation.must(["backup", "verify", id, "--content"])).toContain("every digest matches");

    const parent = join(installation.folder, `restored${major}`);
    await mkdir(parent);
    if (process.getuid?.() === 0) await chown(parent, server.owner.uid, server.owner.gid);
    for (const [id, expected, labels] of [
      [full, atFull, { early: "1000\n2000", between: "0\n0", late: "0\n0" }],
      [incremental, atIncremental, { early: "1000\n2000", between: "1000\n2000", late: "0\n0" }],
    ] as const) {
      const directory = join(parent, id);
      const port = await freePort();
      const place = ["--backup", id, "--to", `db7:${directory}`, "--immediate", "--start", "--port", String(port)];
      try {
        const plan = await installation.must(["restore", "plan", name, ...place]);
        const end = isByWal && id === incremental ? `at the restore point coppice_${id}_` : "at the end of the backup";
        expect(plan).toContain(end);
        await installation.must(["restore", "create", name, ...place]);
        expect(await ask(server, port, "orders", checksum)).toBe(expected);
        for (const [label, count] of Object.entries(labels))
          expect(await ask(server, port, "orders", counts(label)), label).toBe(count);
      } finally {
        await asServer(server, "pg_ctl", ["-D", directory, "-m", "immediate", "-w", "stop"]);
      }
    }

    const refused = await installation.coppice(["backup", "delete", full, "--last", "--yes"]);
    expect(refused.code).toBe(4);
    expect(refused.stderr).toContain(incremental);
    // What is replayed is handed out only while somebody waits for the server.
    const late = ["restore", "create", name, "--backup", incremental, "--to", `db7:${parent}/none`, "--immediate"];
    const alone = isByWal ? (await installation.coppice(late)).stderr : "next: add --start";
    expect(alone).toContain("next: add --start");
    await installation.must(["backup", "delete", incremental, "--last", "--yes"]);
    await installation.must(["backup", "delete", full, "--last", "--yes"]);
  },
);
