// One thing: a server whose clock is set forwards and back while its WAL is archived, by an agent whose own clock is
// always behind it; and what plans say of the times around.
import { chown, mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import process from "node:process";
import { parseLsn } from "@coppice/proto/kit/wal/lsn";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { type FakeClock, openFakeClock, whyNoFakeClock } from "../support/faults/fake-clock.ts";
import { freePort } from "../support/free-port.ts";
import { type Installation, openInstallation, waitFor } from "../support/installation.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";
import { ask, asServer } from "../support/scenarios/restored-server.ts";

const unavailable = whyNoFakeClock();
const hourUs = 3_600_000_000;
/** Seconds by which the server's clock is ahead of the agent's. */
const ahead = { first: 1800, between: 5400 };
const stack = new AsyncDisposableStack();
let clock: FakeClock;
let server: PostgresServer;
let installation: Installation;
let restored: string;
/** Microseconds since 1970, by the server's clock, of the commits 1 to 12; four before, between and after the steps. */
let commits: readonly number[];
/** Ends of WAL once the commits 6 and 10 were there. */
let lsns: { readonly six: string; readonly ten: string };

const sql = (text: string) => server.sql("postgres", text);

async function write(from: number, count: number): Promise<void> {
  for (let id = from; id < from + count; id++) await sql(`insert into marks values (${id}); select pg_sleep(0.02)`);
}

beforeAll(async () => {
  if (unavailable !== undefined) return;
  clock = stack.use(await openFakeClock());
  await clock.set(ahead.first);
  const settings = { track_commit_timestamp: "on", autovacuum: "off" };
  [server, installation] = await Promise.all([
    openPostgresServer({ major: 18, settings, env: clock.env }).then((opened) => stack.use(opened)),
    openInstallation().then((opened) => stack.use(opened)),
  ]);
  await installation.addAgent("db7");
  const repository = join(installation.folder, "backups");
  restored = join(installation.folder, "restored");
  for (const folder of [repository, restored]) await mkdir(folder);
  if (process.getuid?.() === 0) await chown(restored, server.owner.uid, server.owner.gid);
  await installation.must(["repo", "add", "main", `db7:${repository}`]);
  const endpoint = `127.0.0.1:${server.port}`;
  await installation.must(["cluster", "add", "shop", "--host", "db7", "--endpoint", endpoint, "--password-stdin"], {
    input: server.password,
  });
  await installation.must(["cluster", "check", "shop"]);
  await installation.must(["wal", "setup", "shop", "--max-age", "1s"]);
  await sql("create table marks (id int primary key)");
  const backup = () => installation.must(["backup", "create", "shop", "--kind", "full", "--wal", "embedded"]);
  await backup();
  await write(1, 4);
  await clock.set(ahead.between);
  await write(5, 2);
  const six = await sql("select pg_current_wal_insert_lsn()");
  await write(7, 2);
  // To the agent it is earlier than most times that are asked for.
  await backup();
  await clock.set(ahead.first);
  await write(9, 2);
  const ten = await sql("select pg_current_wal_insert_lsn()");
  await write(11, 2);
  lsns = { six, ten };
  const times = await sql(
    "select (extract(epoch from pg_xact_commit_timestamp(xmin)) * 1000000)::bigint from marks order by id",
  );
  commits = times.split("\n").map(Number);
  const end = parseLsn(await sql("select pg_switch_wal()"));
  await waitFor("all of it is archived", async () => {
    const { storedLsn } = await installation.json<{ storedLsn: string }>(["wal", "status", "shop"]);
    return storedLsn !== "" && parseLsn(storedLsn) >= end;
  });
});
afterAll(() => stack.disposeAsync());
beforeEach(({ skip }) => {
  if (unavailable !== undefined) skip(unavailable);
});

const timeOf = (id: number) => commits[id - 1] ?? Number.NaN;
const format = (timeUs: number) =>
  new Date(Math.floor(timeUs / 1000)).toISOString().replace("Z", `${String(timeUs % 1000).padStart(3, "0")}Z`);
const parse = (text: string) => {
  const [, fraction = ""] = /\.(\d+)Z$/.exec(text) ?? [];
  return Math.floor(Date.parse(text) / 1000) * 1_000_000 + Number(fraction.padEnd(6, "0"));
};
const ids = (count: number) => Array.from({ length: count }, (_, index) => index + 1);

test("the server's clock is another one, and goes forwards and back", async () => {
  const apartUs = async () =>
    Number(await sql("select extract(epoch from clock_timestamp()) * 1000000")) - Date.now() * 1000;
  expect(Math.round((await apartUs()) / 60_000_000)).toBe(30);
  expect(timeOf(5) - timeOf(4)).toBeGreaterThan(hourUs);
  expect(timeOf(8) - timeOf(9)).toBeGreaterThan(hourUs / 2);
  expect(timeOf(9)).toBeGreaterThan(timeOf(4));
});

/** What a plan promises, and what is there when it was carried out. */
async function restore(target: readonly string[]) {
  const directory = join(restored, "data");
  const port = await freePort();
  const words = ["shop", ...target, "--to", `db7:${directory}`, "--start", "--port", String(port)];
  const plan = await installation.coppice(["restore", "plan", ...words]);
  const said = plan.stdout + plan.stderr;
  const [, until] = /everything that was committed until (\S+) will be there/.exec(said) ?? [];
  const promise = { isWarned: said.includes("clock-set-back"), untilUs: until === undefined ? 0 : parse(until) };
  const made = await installation.coppice(["restore", "create", ...words]);
  try {
    expect({ code: plan.code, made: made.code }, `${said}${made.stdout}${made.stderr}`).toEqual({ code: 0, made: 0 });
    const rows = await ask(server, port, "postgres", "select id from marks order by id");
    return { ...promise, there: rows.split("\n").filter(Boolean).map(Number), said };
  } finally {
    await asServer(server, "pg_ctl", ["-D", directory, "-m", "immediate", "-w", "stop"]);
    await rm(directory, { recursive: true, force: true });
  }
}

test.each([
  { what: "before the steps", at: () => timeOf(2) + 1, count: 2, isWarned: false },
  { what: "in the hour that was left out", at: () => timeOf(4) + hourUs / 2, count: 4, isWarned: true },
  { what: "in the hour that was taken back", at: () => timeOf(6) + 1, count: 6, isWarned: true },
  { what: "after the clock was set back", at: () => timeOf(10) + 1, count: 4, isWarned: true },
])("a time $what gives what the plan has said", async ({ at, count, isWarned }) => {
  const timeUs = at();
  const result = await restore(["--at", format(timeUs)]);
  expect(result, result.said).toMatchObject({ there: ids(count), isWarned });
  // What is promised without reserve is there, and without a warning nothing else is.
  const committed = commits.flatMap((time, index) => (time <= result.untilUs ? [index + 1] : []));
  expect(result.there).toEqual(expect.arrayContaining(committed));
  const meant = commits.flatMap((time, index) => (time <= timeUs ? [index + 1] : []));
  expect(isWarned || result.there.join() === meant.join()).toBe(true);
});

test("a position is exact whatever the clock says", async () => {
  for (const [lsn, count] of [
    [lsns.six, 6],
    [lsns.ten, 10],
  ] as const)
    expect(await restore(["--lsn", lsn, "--exclusive"])).toMatchObject({ there: ids(count) });
});

test("a time that no commit has come to is refused", async () => {
  const at = format(timeOf(8) + hourUs / 4);
  const plan = await installation.coppice([
    "restore",
    "plan",
    "shop",
    "--at",
    at,
    "--to",
    `db7:${restored}/none`,
    "--start",
  ]);
  expect(plan.code).toBe(4);
  expect(plan.stdout + plan.stderr).toContain("what can be reached");
});
