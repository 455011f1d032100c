import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Client } from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { portrayDatabase } from "../support/dumps/database-portrait.ts";
import { type Installation, openInstallation, waitFor } from "../support/installation.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";
import { putGate } from "../support/scenarios/gate.ts";
import { holdTable } from "../support/scenarios/held-table.ts";
import { addCluster, addRepository } from "../support/scenarios/protect.ts";

let installation: Installation;
let source: PostgresServer;
let fresh: PostgresServer;

beforeAll(async () => {
  [installation, source, fresh] = await Promise.all([
    openInstallation(),
    openPostgresServer({ major: 15 }),
    openPostgresServer({ major: 15 }),
  ]);
  await installation.addAgent("db7");
  await addRepository(installation, "main", "db7");
  await addCluster(installation, "shop", { host: "db7", server: source });
  await addCluster(installation, "shop-new", { host: "db7", server: fresh });
  await source.sql("postgres", "create role app login password 'secret of app'");
  for (const name of ["orders", "stock"]) {
    await source.sql("postgres", `create database ${name} owner app`);
    await source.sql(name, "create table kept as select i as id from generate_series(1, 500) i");
  }
  // People keep things in these two as well.
  await source.sql("postgres", "create table jobs as select 1 as id");
  await source.sql("template1", "create table for_every_database (id int)");
  await installation.must(["backup", "create", "shop"]);
});
afterAll(async () => {
  await installation?.[Symbol.asyncDispose]();
  await source?.[Symbol.asyncDispose]();
  await fresh?.[Symbol.asyncDispose]();
});

const databases = ["orders", "postgres", "stock", "template1"];
const portraits = (server: PostgresServer) => Promise.all(databases.map((name) => portrayDatabase(server, name)));

interface Group {
  readonly id: string;
  readonly restoredCluster: {
    readonly restored: readonly string[];
    readonly createdRoles?: readonly string[];
    readonly keptAs?: readonly string[];
  };
}

interface Plan {
  readonly restorePlan: {
    readonly items: readonly { readonly name: string; readonly status: string }[];
    readonly sessionsToEnd?: number;
    readonly globals?: {
      readonly createdRoles?: readonly string[];
      readonly createdTablespaces?: readonly string[];
      readonly presentRoles?: readonly string[];
      readonly differences?: readonly string[];
    };
    readonly databases?: readonly {
      readonly targetDatabase: string;
      readonly into?: boolean;
      readonly plan: { readonly keptAs?: string; readonly items: readonly { readonly status: string }[] };
    }[];
  };
}

const catalogOf = async (server: PostgresServer) =>
  await server.sql(
    "postgres",
    "select string_agg(oid || datname, ',' order by oid) from pg_database union all select string_agg(oid || rolname, ',' order by oid) from pg_roles",
  );

async function planAll(...flags: string[]) {
  const before = await catalogOf(fresh);
  const line = ["restore", "plan", "shop", "--to", "shop-new", ...flags];
  const { restorePlan } = await installation.json<Plan>(line);
  expect(await catalogOf(fresh)).toBe(before);
  return restorePlan;
}

test("a plan of the globals says what their restore does, and nothing stays of its trial", async () => {
  const { globals, items } = await planAll("--globals");
  expect(globals?.createdRoles).toEqual(["app"]);
  expect(globals?.presentRoles).toEqual(["postgres"]);
  expect(items.map(({ name, status }) => [name, status])).toEqual([
    ["connection", "CHECK_STATUS_OK"],
    ["primary", "CHECK_STATUS_OK"],
    ["tablespaces", "CHECK_STATUS_OK"],
    ["roles", "CHECK_STATUS_OK"],
  ]);
  const said = await installation.must(["restore", "plan", "shop", "--globals", "--to", "shop-new"]);
  expect(said).toMatch(/the globals can be restored into shop-new; nothing was touched[^]*creates the role app\n/);
});

test("a whole cluster goes into a new one: roles, every database, and what lies in the built-in ones", async () => {
  const dry = await installation.must(["restore", "create", "shop", "--all", "--to", "shop-new", "--dry-run"]);
  expect(dry).toMatch(/would be restored into shop-new: the globals, then template1, orders, postgres, stock; nothing/);
  const planned = await planAll("--all");
  expect(planned.globals?.createdRoles).toEqual(["app"]);
  expect(planned.databases?.map(({ targetDatabase, into = false }) => [targetDatabase, into])).toEqual([
    ["template1", true],
    ["orders", false],
    ["postgres", true],
    ["stock", false],
  ]);
  const trouble = planned.databases?.flatMap(({ plan }) =>
    plan.items.filter(({ status }) => status.endsWith("FAILED")),
  );
  expect(trouble, "the roles that databases need are made first").toEqual([]);
  const { restoredCluster } = await installation.json<Group>([
    "restore",
    "create",
    "shop",
    "--all",
    "--to",
    "shop-new",
  ]);
  expect(restoredCluster.createdRoles).toEqual(planned.globals?.createdRoles);
  expect(restoredCluster.restored).toEqual(planned.databases?.map(({ targetDatabase }) => targetDatabase));
  expect(restoredCluster.restored).toEqual(["template1", "orders", "postgres", "stock"]);
  expect(restoredCluster.createdRoles).toEqual(["app"]);
  expect(await portraits(fresh)).toEqual(await portraits(source));
  const owner = "select pg_get_userbyid(datdba) from pg_database where datname = 'orders'";
  expect(await fresh.sql("postgres", owner)).toBe("app");
});

test("again it is refused before anything is touched, and goes in place with --replace", async () => {
  await installation.must(["cluster", "check", "shop-new"]);
  const again = ["restore", "create", "shop", "--all", "--to", "shop-new"];
  const refused = await installation.coppice(again);
  expect([refused.code, refused.stdout]).toEqual([4, ""]);
  expect(refused.stderr).toContain('cluster shop-new has databases of these names already: "orders", "stock"');
  for (const name of databases) await fresh.sql(name, "create table written_later (id int)");
  await using session = await holdTable(fresh, "orders", "kept");
  const planned = await planAll("--all", "--replace");
  expect(planned.globals?.createdRoles ?? []).toEqual([]);
  expect(planned.globals?.presentRoles).toEqual(["app", "postgres"]);
  expect(planned.sessionsToEnd).toBe(1);
  const { restoredCluster } = await installation.json<Group>([...again, "--replace", "--yes"]);
  await session.lost;
  const kept = (names: readonly (string | undefined)[] = []) => names.map((name) => name?.replace(/\d+$/, ""));
  expect(kept(restoredCluster.keptAs)).toEqual(kept(planned.databases?.map(({ plan }) => plan.keptAs)));
  expect(restoredCluster.keptAs).toHaveLength(4);
  expect(await portraits(fresh)).toEqual(await portraits(source));
  const before = restoredCluster.keptAs?.find((name) => name.startsWith("orders_before_")) ?? "";
  expect(await fresh.sql(before, "select to_regclass('written_later') is not null")).toBe("t");
});

test("the globals alone change nothing that is there", async () => {
  const said = await installation.json<{ restoredGlobals: { createdRoles?: readonly string[] } }>([
    // oxfmt-ignore
    "restore",
    "create",
    "shop",
    "--globals",
    "--to",
    "shop-new",
    "--role",
    "app",
  ]);
  expect(said.restoredGlobals.createdRoles ?? []).toEqual([]);
});

/** Asks while the database that is asked may just be swapped, as another program would: what came too late comes again. */
function askMeanwhile(query: string): Promise<string> {
  return fresh.sql("postgres", query).catch((error: unknown) => {
    if (!String(error).includes("It seems to have just been dropped or renamed")) throw error;
    return "";
  });
}

test("an agent killed in the globals, and in a database, of a cluster's restore leaves what was there as it was", async () => {
  await source.sql("postgres", "create role late; create role later in role late");
  const gate = await putGate(source, "stock");
  await installation.must(["backup", "create", "shop"]);
  const [original, gateFile] = [await portraits(fresh), join(fresh.dataDir, "gate")];
  const { port, superuser: user, password } = fresh;
  const lock = new Client({ host: "127.0.0.1", port, user, password, database: "template1" });
  await lock.connect();
  await lock.query("begin; lock table pg_authid in share row exclusive mode");
  await writeFile(gateFile, "");
  const restore = ["restore", "create", "shop", "--all", "--to", "shop-new", "--replace", "--yes"];
  const id = (await installation.must([...restore, "--no-wait", "-o", "name"])).trim();
  const isWaiting = (what: string) =>
    waitFor(`a session waits: ${what}`, async () => (await askMeanwhile(`select ${what}`)) === "t");

  // In the one transaction of the roles.
  await isWaiting("exists (select from pg_stat_activity where query ~ '^CREATE ROLE' and wait_event_type = 'Lock')");
  await installation.agent("db7").end("SIGKILL");
  expect(await portraits(fresh)).toEqual(original);
  await lock.query("rollback");
  await lock.end();
  const roles = () => fresh.sql("postgres", "select count(*) from pg_roles where rolname ~ '^late'");
  await isWaiting("not exists (select from pg_stat_activity where query ~ '^CREATE ROLE' and state <> 'idle')");
  expect(await roles()).toBe("0");
  installation.startAgent("db7");

  // The globals are repeated, and the databases come one by one up to the closed gate.
  await isWaiting(
    "exists (select from pg_stat_activity where datname ~ '^coppice_restore' and wait_event = 'PgSleep')",
  );
  expect(await roles()).toBe("2");
  const stock = await portrayDatabase(fresh, "stock");
  await installation.agent("db7").end("SIGKILL");
  expect(await portrayDatabase(fresh, "stock")).toBe(stock);
  installation.startAgent("db7");
  const ended = await waitFor("the group has ended", async () => {
    const seen = await installation.call<{ state: string; failure?: { reason: string } }>(
      "OperationService/GetOperation",
      { operation: id },
    );
    return /_(SUCCEEDED|FAILED|CANCELLED)$/.test(seen.state) && seen;
  });
  // Not tried again by itself: the look has cleared the staged one away, and what is there is the original.
  expect(ended.state).toBe("OPERATION_STATE_FAILED");
  expect(await portrayDatabase(fresh, "stock")).toBe(stock);
  expect(await fresh.sql("postgres", "select count(*) from pg_database where datname ~ '^coppice_'")).toBe("0");
  await rm(gateFile);
  await gate.open();
  await installation.must(restore);
  expect(await portraits(fresh)).toEqual(await portraits(source));
});

test("a plan of a whole cluster names each database that is in the way, and so does the restore", async () => {
  // What the catalog was last told of is refused at once: these two came and went since.
  await installation.must(["cluster", "check", "shop-new"]);
  const line = ["shop", "--all", "--to", "shop-new"];
  for (const name of ["orders", "stock"]) await fresh.sql("postgres", `drop database ${name}`);
  await installation.must(["cluster", "check", "shop-new"]);
  await fresh.sql("postgres", "create database stock");
  const plan = await installation.coppice(["restore", "plan", ...line]);
  expect([plan.code, plan.stdout]).toEqual([1, ""]);
  expect(plan.stderr).toMatch(/the whole cluster cannot be restored into shop-new; nothing was touched/);
  expect(plan.stderr).toMatch(/✗ target +stock: .*stock/);
  expect(plan.stderr).not.toMatch(/✗ target +orders/);
  const restore = await installation.coppice(["restore", "create", ...line]);
  const refusal = /failed on .*: database \\?"(\w+)\\?": (.*)/.exec(restore.stderr) ?? [];
  expect([restore.code === 0, refusal[1]], restore.stderr).toEqual([false, "template1"]);
  expect(plan.stderr, "the first of them stopped the restore").toContain(`template1: ${refusal[2]}`);
});
