// One table as it was a moment before a mistake, through the real control plane and agent: beside the live one, into a
// file, and with the agent killed on the way.
import { mkdir, readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Installation, openInstallation, waitFor } from "../support/installation.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";
import { findPrograms } from "../support/programs.ts";
import { runProgram } from "../support/run-program.ts";
import { type Gate, putGate } from "../support/scenarios/gate.ts";
import type { Operation } from "../support/scenarios/kill-lab.ts";
import { listProcesses } from "../support/scenarios/processes.ts";
import { openTmux } from "../support/scenarios/tmux.ts";
import { waitUntilKnown } from "../support/wal/known-time.ts";

const majors = [15, 18] as const;
const rows = "select count(*) || ' ' || md5(string_agg(t::text, '' order by t::text)) from items t";

let installation: Installation;
let scratch: string;
const stack = new AsyncDisposableStack();
const servers = new Map<number, { readonly server: PostgresServer; readonly gate: Gate }>();
/** The second before the mistake, and what there was. */
const known = new Map<number, { readonly moment: string; readonly before: string }>();

beforeAll(async () => {
  const open = async (major: number) => {
    const server = stack.use(await openPostgresServer({ major }));
    await server.sql("postgres", "create database orders");
    await server.sql(
      "orders",
      "create table items (id int primary key, name text); insert into items select i, md5(i::text) from generate_series(1, 1000) i",
    );
    servers.set(major, { server, gate: await putGate(server, "orders") });
  };
  [installation] = await Promise.all([openInstallation(), ...majors.map(open)]);
  stack.use(installation);
  await installation.addAgent("db7");
  const folder = join(installation.folder, "backups");
  scratch = join(installation.folder, "scratch");
  for (const made of [folder, scratch]) await mkdir(made);
  await installation.must(["repo", "add", "main", `db7:${folder}`, "--check"]);
  await Promise.all(majors.map(lose));
}, 180_000);
afterAll(() => stack.disposeAsync());

function serverOf(major: number) {
  const found = servers.get(major);
  if (!found) throw new Error("no server");
  const query = async (sql: string, database = "orders") => (await found.server.sql(database, sql)).trimEnd();
  return { ...found, query };
}

/** Protects the server, and deletes rows by mistake a while after its backup. */
async function lose(major: number): Promise<void> {
  const { server, query } = serverOf(major);
  const name = `shop${major}`;
  const endpoint = `127.0.0.1:${server.port}`;
  await installation.must(["cluster", "add", name, "--host", "db7", "--endpoint", endpoint, "--password-stdin"], {
    input: server.password,
  });
  await installation.must(["cluster", "check", name]);
  await installation.must(["wal", "setup", name, "--to", "main", "--max-age", "2s"]);
  await installation.must(["backup", "create", name, "--kind", "full", "--wal", "embedded"]);
  await query("insert into items select i, 'after the backup' from generate_series(2001, 2100) i");
  const before = await query(rows);
  await query("select pg_sleep(1.1)");
  const moment = await query(
    "select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00'",
  );
  known.set(major, { moment, before });
  await query("select pg_sleep(1.1)");
  await query("delete from items where id <= 300");
  await query("update items set name = 'wrong' where id between 301 and 310");
  await query("insert into items values (9001, 'new since'), (9002, 'new since')");
  await query("select pg_switch_wal()");
  await waitUntilKnown(installation, name, moment);
}

/** Nothing is left of a scratch server, nor of what was to be made of it. */
async function expectGone(major: number): Promise<void> {
  expect(await readdir(scratch)).toEqual([]);
  expect(await readdir(join(installation.folder, "agent-db7/work"))).toEqual([]);
  const left = (await listProcesses()).filter(({ argv }) => argv.join(" ").includes(scratch));
  expect(left).toEqual([]);
  expect(await serverOf(major).query("select datname from pg_database where datname like 'coppice%'")).toBe("");
}

test.each(majors)(
  "rows that were deleted by mistake on PostgreSQL %i are in a table beside as they were, and what differs is counted",
  { timeout: 180_000 },
  async (major) => {
    const { query } = serverOf(major);
    const { moment, before } = known.get(major) ?? {};
    if (moment === undefined) throw new Error("nothing was lost");
    const name = `shop${major}`;
    const what = ["--at", moment, "--database", "orders", "--table", "public.items", "--scratch", scratch];
    const place = ["--to", name, "--as", "items_before"];
    const plan = await installation.must(["restore", "plan", name, ...what, ...place]);
    expect(plan).toContain(`✓ public.items of orders can be restored into ${name} as items_before, as it was at `);
    expect(plan).toContain('count the rows that differ from those of the live database "orders"');
    const dry = await installation.must(["restore", "create", name, ...what, ...place, "--dry-run"]);
    expect(dry).toContain("would be brought back into");
    await expectGone(major);

    const said = await installation.must(["restore", "create", name, ...what, ...place]);
    expect(said).toContain(`✓ public.items of orders, as it was at `);
    expect(said).toContain(` is in ${name} as items_before: `);
    expect(said).toContain(
      "  public.items: 300 only in what was recovered, 2 only in the live table, 10 changed, 790 the same; by primary key\n",
    );
    expect(await query(rows, "items_before")).toBe(before);
    await expectGone(major);
    const again = await installation.coppice(["restore", "create", name, ...what, ...place]);
    expect([again.code, again.stderr]).toEqual([expect.any(Number), expect.stringContaining("exists already")]);
    expect(again.code).not.toBe(0);
  },
);

test("the same into a dump file on the host, which is checked, closed to others, and never takes another's place", async () => {
  const major = 15;
  const { server } = serverOf(major);
  const { moment = "" } = known.get(major) ?? {};
  const file = join(installation.folder, "items.dump");
  const words = ["--at", moment, "--database", "orders", "--table", "items", "--to", `db7:${file}`];
  const said = await installation.must(["restore", "create", "shop15", ...words]);
  expect(said).toContain(` is in db7:${file}: 1 table with rows, `);
  expect((await stat(file)).mode & 0o777).toBe(0o600);
  const list = await runProgram(join(server.binDir, "pg_restore"), ["--list", file], { env: process.env });
  expect(list.stdout).toContain("TABLE DATA public items");
  const refused = await installation.coppice(["restore", "create", "shop15", ...words]);
  expect(refused.stderr).toContain(`the file ${file} is there already`);
  // Without another folder it was recovered in the usual one.
  const folder = /the scratch server and db7:(\/var\/tmp\/coppice-op_[0-9a-z]+) are gone/.exec(said)?.[1] ?? "nowhere";
  expect((await readdir("/var/tmp")).map((name) => join("/var/tmp", name))).not.toContain(folder);
  expect(folder).not.toBe("nowhere");
  await expectGone(major);
});

test("who is asked at a terminal can choose a point in time, and sees first what would be done", async () => {
  await using tmux = await openTmux();
  const answer = async (question: RegExp, text: string) => {
    await tmux.shows(question);
    if (text !== "") await tmux.type(text);
    await tmux.press("Enter");
  };
  await tmux.run(installation.env, [findPrograms().coppice, "restore"]);
  await tmux.shows(/restore from which cluster\?[^]*shop15[^]*shop18/);
  await tmux.press("Down", "Enter");
  await answer(/which backup\?[^]*a point in time: one database or table, as it was then/, "");
  await answer(/as it was when\?/, known.get(18)?.moment ?? "");
  await answer(/which database\?[^]*orders/, "");
  await answer(/only some of its tables\?/, "public.items");
  await answer(/where to\?[^]*shop18, under a new name/, "");
  await answer(/name for the database that holds it\?/, "");
  await tmux.shows(/public\.items of orders can be restored into shop18 as orders-before[^]*restore it now\?/);
  await tmux.press("Enter");
  await tmux.shows(/the same as one line: .*--table public\.items[^]*nothing was restored/);
  expect(await tmux.exitCode()).toBe(0);
});

test("what asks for it in a way that cannot be is refused with what to say instead", async () => {
  const refused = async (...words: string[]) =>
    (await installation.coppice(["restore", "create", "shop18", ...words])).stderr;
  expect(await refused("--latest", "--database", "orders", "--as", "x", "--start")).toContain(
    "--start does not go with",
  );
  expect(await refused("--database", "orders", "--to", "db7:/srv/x.dump")).toContain("add --at or another point");
  expect(await refused("--at", "2 hours ago")).toContain("--database NAME");
  expect(await refused("--latest", "--database", "orders", "--to", "db7:/srv/x.dump", "--as", "y")).toContain(
    "a dump file is no database yet",
  );
});

test(
  "an agent that is killed on the way leaves nothing of the scratch server once it is back",
  { timeout: 180_000 },
  async () => {
    const major = 18;
    const { gate, query } = serverOf(major);
    const { moment = "" } = known.get(major) ?? {};
    const words = ["--at", moment, "--database", "orders", "--as", "orders_then", "--scratch", scratch, "--no-wait"];
    await gate.close();
    try {
      for (const step of ["recovering", "loading"]) {
        const started = await installation.must(["restore", "create", "shop18", ...words, "-o", "name"]);
        const id = started.trim();
        if (step === "loading") await gate.waitedFor("coppice_restore%");
        else
          await waitFor(
            "the scratch server runs",
            async () => {
              const folder = join(scratch, `coppice-${id}`, "data/postmaster.pid");
              return (await stat(folder).catch(() => undefined)) !== undefined;
            },
            60_000,
          );
        await installation.agent("db7").end("SIGKILL");
        expect(await readdir(scratch)).toHaveLength(1);
        installation.startAgent("db7");
        const ended = await waitFor(
          "the lost work is settled",
          async () => {
            const operation = await installation.call<Operation>("OperationService/GetOperation", { operation: id });
            return /_(SUCCEEDED|FAILED|CANCELLED)$/.test(operation.state) ? operation : undefined;
          },
          90_000,
        );
        expect(ended, step).toMatchObject({ state: "OPERATION_STATE_FAILED", failure: { reason: "AGENT_LOST" } });
        expect(ended.leavings ?? []).toEqual([]);
        await expectGone(major);
      }
    } finally {
      await gate.open();
    }
    expect(await query("select count(*) from pg_database where datname = 'orders_then'")).toBe("0");
  },
);

test(
  "a whole database waits beside the live one until the difference was seen and confirmed, and only then takes its place",
  { timeout: 180_000 },
  async () => {
    const { query } = serverOf(18);
    const { moment = "", before = "" } = known.get(18) ?? {};
    const live = await query(rows);
    const what = ["--at", moment, "--database", "orders", "--replace", "--scratch", scratch];
    const difference =
      "public.items: 300 only in what was recovered, 2 only in the live table, 10 changed, 790 the same";
    // Nobody can be asked: it is said, and nothing is replaced.
    const asked = await installation.coppice(["restore", "create", "shop18", ...what]);
    expect([asked.code, asked.stderr]).toEqual([2, expect.stringContaining("orders in shop18 is as it was")]);
    expect(asked.stdout).toContain(difference);
    const operation = /coppice restore swap (op_[0-9a-z]+)/.exec(asked.stdout)?.[1] ?? "none";
    const beside = / as (coppice_restore_[0-9a-z]+)/.exec(asked.stdout)?.[1] ?? "nowhere";
    expect(await query(rows)).toBe(live);
    expect(await query(rows, beside)).toBe(before);
    expect(await readdir(scratch)).toEqual([]);

    // At a terminal the difference comes first, and only the name itself is a yes.
    await using tmux = await openTmux();
    await tmux.run(installation.env, [findPrograms().coppice, "restore", "swap", operation]);
    await tmux.shows(/300 only in what was recovered[^]*orders in shop18 is replaced by it[^]*type orders to go on/);
    await tmux.type("yes");
    await tmux.press("Enter");
    await tmux.shows(/orders in shop18 is as it was[^]*coppice restore drop op_/);
    expect(await tmux.exitCode()).toBe(2);
    expect(await query(rows)).toBe(live);

    const swapped = await installation.must(["restore", "swap", operation, "--yes"]);
    expect(swapped).toContain("✓ orders of shop18 is the restored one now");
    const kept = /kept as (orders_before_\d+)/.exec(swapped)?.[1] ?? "nowhere";
    expect(await query(rows)).toBe(before);
    expect(await query(rows, kept)).toBe(live);
    await expectGone(18);
    const late = await installation.coppice(["restore", "drop", operation, "--yes"]);
    expect([late.code, late.stderr]).toEqual([
      4,
      expect.stringContaining("orders of shop18 is the restored one already"),
    ]);

    // Said beforehand, the difference is shown all the same; now it is none.
    const again = await installation.coppice(["restore", "create", "shop18", ...what, "--yes"]);
    expect(again.code).toBe(0);
    expect(again.stderr).toContain("public.items: 0 only in what was recovered, 0 only in the live table, 0 changed");
    expect(again.stdout).toContain("✓ orders of shop18 is the restored one now");
    expect(await query(rows)).toBe(before);
    await expectGone(18);
  },
);
