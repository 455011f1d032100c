import { afterAll, beforeAll, expect, test } from "vitest";
import { portrayDatabase } from "../support/dumps/database-portrait.ts";
import { type Installation, openInstallation } from "../support/installation.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";
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

test("a whole cluster goes into a new one: roles, every database, and what lies in the built-in ones", async () => {
  const dry = await installation.must(["restore", "create", "shop", "--all", "--to", "shop-new", "--dry-run"]);
  expect(dry).toMatch(/would be restored into shop-new: the globals, then template1, orders, postgres, stock; nothing/);
  const { restoredCluster } = await installation.json<Group>([
    "restore",
    "create",
    "shop",
    "--all",
    "--to",
    "shop-new",
  ]);
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
  const { restoredCluster } = await installation.json<Group>([...again, "--replace", "--yes"]);
  expect(restoredCluster.keptAs).toHaveLength(4);
  expect(await portraits(fresh)).toEqual(await portraits(source));
  const kept = restoredCluster.keptAs?.find((name) => name.startsWith("orders_before_")) ?? "";
  expect(await fresh.sql(kept, "select to_regclass('written_later') is not null")).toBe("t");
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
