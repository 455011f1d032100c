// A cluster of two servers, as operators have it: backups of the standby, recovery through the primary's WAL, and a promotion.
import { chown, mkdir } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { freePort } from "../support/free-port.ts";
import { type Installation, openInstallation, waitFor } from "../support/installation.ts";
import { openStandby } from "../support/physical/standby.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";
import { ask, asServer } from "../support/scenarios/restored-server.ts";

const rows = "select count(*), md5(string_agg(t::text, '' order by t::text)) from items t";
const settings = { summarize_wal: "on" };
let installation: Installation;
let primary: PostgresServer;
let standby: PostgresServer;
const stack = new AsyncDisposableStack();

beforeAll(async () => {
  [installation, primary] = await Promise.all([
    openInstallation({ heartbeat: "1s" }),
    openPostgresServer({ major: 18, settings }),
  ]);
  stack.use(installation);
  stack.use(primary);
  await primary.sql("postgres", "create database orders");
  await primary.sql("postgres", `create role coppice superuser login password '${primary.password}'`);
  await primary.sql("orders", "create table items as select i as id, md5(i::text) from generate_series(1, 2000) i");
  standby = stack.use(await openStandby(primary, settings));
  await installation.addAgent("db7");
  await installation.addAgent("db9");
  const folder = join(installation.folder, "backups");
  await mkdir(folder);
  await installation.must(["repo", "add", "main", `db7:${folder}`, "--shared", "--check"]);
  await installation.must(["cluster", "add", "shop", "--host", "db7", ...place(primary), "--user", "coppice"], {
    input: primary.password,
  });
  await installation.must(["cluster", "check", "shop"]);
  await installation.must(["wal", "setup", "shop", "--max-age", "1h"]);
}, 120_000);
afterAll(() => stack.disposeAsync());

const at = ({ port }: PostgresServer) => ["--endpoint", `127.0.0.1:${port}`];
const place = (server: PostgresServer) => [...at(server), "--password-stdin"];
const create = (...flags: string[]) => installation.coppice(["backup", "create", "shop", ...flags]);
const refused = async (args: readonly string[], input = "") => {
  const { code, stderr } = await installation.coppice(args, { input });
  return { code, stderr };
};
/** The servers of the cluster as they were seen last. */
const servers = async () => {
  const { instances } = await installation.json<{
    instances: readonly { hostName: string; role?: string; reachable?: boolean }[];
  }>(["cluster", "get", "shop"]);
  return instances.map(({ hostName, role, reachable }) => `${hostName} ${role} ${reachable}`);
};
const findings = async () =>
  (await installation.json<{ findings?: readonly { rule: string }[] }>(["doctor"])).findings?.map(({ rule }) => rule);
/** Waits until everything that was committed on the server is in the archive. */
const allStored = async (server: PostgresServer) => {
  const end = (await server.sql("orders", "select pg_switch_wal()")).trimEnd();
  await waitFor("all of it is stored", async () => {
    const { storedLsn } = await installation.json<{ storedLsn: string }>(["wal", "status", "shop"]);
    return storedLsn !== "" && (await server.sql("orders", `select '${storedLsn}'::pg_lsn >= '${end}'`)) === "t";
  });
};

test(
  "backups of the standby are restored to a later second, through the primary's WAL",
  { timeout: 180_000 },
  async () => {
    expect(await create("--kind", "full", "--instance", "standby")).toMatchObject({
      code: 3,
      stderr: expect.stringMatching(
        /no server of cluster shop is known[^]*coppice cluster add-instance shop/,
      ) as string,
    });
    const none = await create("--kind", "dump", "--instance", "prefer-standby");
    expect(none.stdout).toMatch(
      /^ {2}! taken of the primary, by the agent of db7: no server is known to be a standby/m,
    );
    expect(await installation.must(["backup", "get", none.stdout.slice(2, 32)])).toMatch(/^taken of: +a primary$/m);
    // Its role and its password are those of the primary, where the password goes by no weaker a way.
    const weak = ["--host", "db9", ...at(standby), "--sslmode", "disable"];
    expect(await installation.must(["cluster", "add-instance", "shop", ...weak])).toMatch(
      /^ {2}its role is "coppice", without a password\n {2}its sslmode is disable$/m,
    );
    await installation.must(["cluster", "remove-instance", "shop", "db9", "--yes"]);
    const added = await installation.must(["cluster", "add-instance", "shop", "--host", "db9", ...at(standby)]);
    expect(added).toMatch(/^ {2}its role is "coppice", with the password that the cluster has already$/m);
    expect(
      await refused(["cluster", "add-instance", "shop", "--host", "db9", ...place(standby)], standby.password),
    ).toMatchObject({
      code: 4,
      stderr: expect.stringContaining("has that server by the agent of db9 already") as string,
    });
    const checked = await installation.must(["cluster", "check", "shop"]);
    expect(checked).toContain(`answers at 127.0.0.1:${primary.port}`);
    expect(checked).toMatch(new RegExp(`answers at 127.0.0.1:${standby.port}[^]*it is a standby`));
    expect(await servers()).toEqual(["db7 INSTANCE_ROLE_PRIMARY true", "db9 INSTANCE_ROLE_STANDBY true"]);
    expect(await installation.must(["cluster", "get", "shop"])).toMatch(/^db9 +\S+ +standby /m);

    // It is left to the archive, which the primary's agent fills: that one is asked to have the segment ended.
    const full = await create("--kind", "full", "--instance", "standby");
    expect(full).toMatchObject({ code: 0, stdout: expect.stringMatching(/, in the archive, /) as string });
    expect(full.stdout).toMatch(/^ {2}taken of a standby, by the agent of db9$/m);
    const id = full.stdout.slice(2, 32);
    expect(await installation.must(["backup", "get", id])).toMatch(/^taken of: +a standby$/m);
    // A standby makes no checkpoints of its own: an incremental takes one that it has replayed since its parent.
    await primary.sql("orders", "insert into items values (0, 'more'); checkpoint");
    const end = (await primary.sql("orders", "select pg_current_wal_lsn()")).trimEnd();
    const hasReplayed = `select pg_last_wal_replay_lsn() >= '${end}'`;
    await waitFor("the standby has it", async () => (await standby.sql("orders", hasReplayed)) === "t");
    await standby.sql("orders", "checkpoint");
    const incremental = await create("--kind", "incremental", "--instance", "prefer-standby");
    expect(incremental).toMatchObject({ code: 0 });
    expect(await installation.must(["backup", "get", incremental.stdout.slice(2, 32)])).toMatch(
      new RegExp(`^parent: +${id}$`, "m"),
    );

    await primary.sql("orders", "insert into items select i, 'later' from generate_series(3000, 3500) i");
    const before = (await primary.sql("orders", rows)).trimEnd();
    const moment = (
      await primary.sql("orders", "select to_char(clock_timestamp(), 'YYYY-MM-DD HH24:MI:SS.US OF')")
    ).trimEnd();
    await primary.sql("orders", "delete from items");
    await allStored(primary);
    const parent = join(installation.folder, "again");
    await mkdir(parent);
    await chown(parent, primary.owner.uid, primary.owner.gid);
    const directory = join(parent, "data");
    const port = await freePort();
    const to = ["--at", moment, "--to", `db9:${directory}`, "--start", "--port", String(port)];
    expect(await installation.must(["restore", "create", "shop", ...to])).toContain("on timeline 2");
    try {
      expect(await ask(primary, port, "orders", rows)).toBe(before);
    } finally {
      await asServer(primary, "pg_ctl", ["-D", directory, "-m", "immediate", "-w", "stop"]);
    }
    await primary.sql("orders", "insert into items values (1, 'new')");
  },
);

test("of a standby that was behind nothing is promised that it had not replayed", { timeout: 180_000 }, async () => {
  await primary.sql("orders", "checkpoint");
  const end = (await primary.sql("orders", "select pg_current_wal_lsn()")).trimEnd();
  const hasReplayed = `select pg_last_wal_replay_lsn() >= '${end}'`;
  await waitFor("the standby has it", async () => (await standby.sql("orders", hasReplayed)) === "t");
  await standby.sql("orders", "checkpoint; select pg_wal_replay_pause()");
  await primary.sql("orders", "insert into items values (-1, 'not replayed')");
  const missed = Date.parse(await primary.sql("orders", "select to_json(now())#>>'{}'"));
  const ofPrimary = (await create("--kind", "full", "--instance", "primary", "--wal", "embedded")).stdout.slice(2, 32);
  const id = (await create("--kind", "full", "--instance", "standby", "--wal", "embedded")).stdout.slice(2, 32);
  const parent = join(installation.folder, "behind");
  await mkdir(parent);
  await chown(parent, primary.owner.uid, primary.owner.gid);
  const directory = join(parent, "data");
  const to = ["--immediate", "--to", `db9:${directory}`];
  const planOf = async (...flags: string[]) =>
    (
      await installation.json<{
        physicalPlan: { chain: string[]; endTime: string; items: { name: string }[] };
      }>(["restore", "plan", "shop", ...flags, ...to])
    ).physicalPlan;
  expect(await planOf()).toMatchObject({ chain: [ofPrimary] });
  const { endTime, items } = await planOf("--backup", id);
  expect(Date.parse(endTime)).toBeLessThan(missed);
  expect(items.map(({ name }) => name)).not.toContain("clock-set-back");
  const port = await freePort();
  await installation.must(["restore", "create", "shop", "--backup", id, ...to, "--start", "--port", String(port)]);
  try {
    expect(await ask(primary, port, "orders", "select count(*) from items where id = -1")).toBe("0");
  } finally {
    await asServer(primary, "pg_ctl", ["-D", directory, "-m", "immediate", "-w", "stop"]);
  }
  await standby.sql("orders", "select pg_wal_replay_resume()");
});

test("a server of another cluster is refused, and servers are named where there are several", async () => {
  const other = stack.use(await openPostgresServer({ major: 18 }));
  await installation.must(["cluster", "add-instance", "shop", "--host", "db9", ...place(other), "--user", "postgres"], {
    input: other.password,
  });
  expect(await refused(["cluster", "check", "shop", "--instance", "db9"])).toMatchObject({
    code: 3,
    stderr: expect.stringMatching(/several servers by the agent of db9: ins_\w+ at 127\.0\.0\.1:\d+, ins_/) as string,
  });
  const { stderr } = await refused(["cluster", "remove-instance", "shop", "db9"]);
  const [, added = ""] = /, (ins_\w+)/.exec(stderr) ?? [];
  expect(await refused(["cluster", "check", "shop", "--instance", added])).toMatchObject({
    code: 1,
    stderr: expect.stringContaining("belongs to another cluster") as string,
  });
  const { incarnations } = await installation.json<{ incarnations: readonly object[] }>(["cluster", "get", "shop"]);
  expect(incarnations).toHaveLength(1);
  expect(await findings()).toEqual(["instance-unreachable"]);
  const { operations } = await installation
    .coppice(["cluster", "check", "shop", "-o", "json"])
    .then(({ stdout }) => JSON.parse(stdout) as { operations: readonly object[] });
  expect(operations).toHaveLength(3);
  const wrong = ["cluster", "update", "shop", "--instance", added, "--password-stdin"];
  await installation.must(wrong, { input: "wrong" });
  expect((await refused(["cluster", "check", "shop", "--instance", added])).stderr).toContain(
    "`coppice cluster update shop --instance db9 --user ROLE --password-stdin`",
  );
  expect(await refused(["cluster", "update", "shop", "--port", "5433"])).toMatchObject({
    code: 2,
    stderr: expect.stringContaining("cluster shop has 3 servers: say which one") as string,
  });
  await installation.must(["cluster", "remove-instance", "shop", added]);
  expect(await refused(["cluster", "remove-instance", "shop", "db7"])).toMatchObject({
    code: 4,
    stderr: expect.stringContaining("its WAL is archived for cluster shop") as string,
  });
});

test("where the standby is away or promoted, what was asked for is done or refused", { timeout: 180_000 }, async () => {
  await standby.stop("immediate");
  expect(await create("--kind", "full", "--instance", "prefer-standby")).toMatchObject({ code: 6 });
  expect(await findings()).toEqual(["instance-unreachable"]);
  expect(await create("--kind", "full", "--instance", "prefer-standby")).toMatchObject({
    code: 0,
    stdout: expect.stringMatching(/! taken of the primary, .*: that of db9 was not reached the last time/) as string,
  });
  expect(await create("--kind", "full", "--instance", "standby")).toMatchObject({ code: 6 });
  await standby.start();
  const dump = await create("--kind", "dump", "--instance", "standby");
  expect(await installation.must(["backup", "get", dump.stdout.slice(2, 32)])).toMatch(/^taken of: +a standby$/m);
  expect(await findings()).toEqual([]);

  await primary.stop("immediate");
  await standby.sql("postgres", "select pg_promote(true, 60)");
  expect(await create("--kind", "full", "--instance", "standby")).toMatchObject({
    code: 4,
    stderr: expect.stringContaining("is a primary by now, and a standby was asked for") as string,
  });
  expect(await servers()).toEqual(["db7 INSTANCE_ROLE_PRIMARY true", "db9 INSTANCE_ROLE_PRIMARY true"]);
  expect(await findings()).toContain("two-primaries");
  expect((await installation.coppice(["cluster", "check", "shop"])).code).toBe(1);
  expect(await findings()).not.toContain("two-primaries");
  // Work goes to the one that lives, and WAL follows when it is told to.
  await installation.must(["wal", "setup", "shop", "--max-age", "2s"]);
  await waitFor(
    "the agent beside the new primary archives",
    async () => {
      const { hostName, ownership, timeline } = await installation.json<{
        hostName: string;
        timeline: number;
        ownership?: { nextHost?: string };
      }>(["wal", "status", "shop"]);
      return hostName === "db9" && !ownership?.nextHost && timeline === 2;
    },
    60_000,
  );
  await standby.sql("orders", "insert into items values (2, 'newer')");
  const taken = await create("--kind", "full", "--instance", "primary", "--wal", "archive");
  expect(taken).toMatchObject({ code: 0, stdout: expect.stringMatching(/, in the archive, /) as string });

  // The old primary comes back, and still takes itself for one.
  await primary.start();
  expect(await refused(["cluster", "check", "shop"])).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/backups are taken of that of db9[^]*remove-instance shop ins_/) as string,
  });
  expect(await findings()).toContain("two-primaries");
  expect((await create("--kind", "full", "--instance", "primary", "--dry-run")).stdout).toContain(
    "by the agent of db9",
  );

  // Asked once more, the archive stays where it is; nobody waits for an agent that is lost.
  await installation.must(["wal", "setup", "shop"]);
  expect(await installation.json(["wal", "status", "shop"])).toMatchObject({
    hostName: "db9",
    settings: { maxAge: "2s" },
    ownership: { firstTimeline: 1 },
  });
  await installation.agent("db7").end("SIGKILL");
  await waitFor("its agent is lost", async () => (await findings())?.includes("agent-lost"));
  expect(await refused(["cluster", "check", "shop"])).toMatchObject({
    code: 6,
    stderr: expect.stringMatching(/is not looked at: the agent of db7 is away \(lost /) as string,
  });
  expect(await findings()).not.toContain("two-primaries");
});
