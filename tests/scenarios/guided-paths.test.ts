import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { makeAgeKey } from "../support/dumps/age-key.ts";
import { type Installation, openInstallation } from "../support/installation.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";
import { findPrograms } from "../support/programs.ts";
import { runProgram } from "../support/run-program.ts";
import { addCluster, addRepository } from "../support/scenarios/protect.ts";
import { openTmux, type Tmux } from "../support/scenarios/tmux.ts";

let installation: Installation;
let server: PostgresServer;
let fresh: PostgresServer;
let tmux: Tmux;

beforeAll(async () => {
  [installation, server, fresh, tmux] = await Promise.all([
    openInstallation(),
    openPostgresServer({ major: 15 }),
    openPostgresServer({ major: 15 }),
    openTmux(),
  ]);
  await installation.addAgent("db7");
  await addRepository(installation, "main", "db7");
  await addCluster(installation, "shop", { host: "db7", server });
  await addCluster(installation, "shop-new", { host: "db7", server: fresh });
  await server.sql("postgres", "create role app; create database orders owner app");
  await server.sql(
    "orders",
    `create schema sales; create table sales.sold as select 1 as id;
     create schema "north,south"; create table "north,south".sold as select 1 as id;
     create table orders as select i as id from generate_series(1, 300) i`,
  );
  await installation.must(["backup", "create", "shop", "--database", "orders"]);
});
afterAll(async () => {
  await tmux?.[Symbol.asyncDispose]();
  await server?.[Symbol.asyncDispose]();
  await fresh?.[Symbol.asyncDispose]();
  await installation?.[Symbol.asyncDispose]();
});

/** What of a server a restore could have changed. */
const portrait = async (of: PostgresServer) =>
  await of.sql(
    "postgres",
    "select string_agg(oid || datname, ',' order by oid) from pg_database union all select string_agg(rolname, ',' order by oid) from pg_roles",
  );

/** Chooses the answer that begins so: the keys down to it are those of the list on the screen. */
async function choose(question: RegExp, answer: string): Promise<void> {
  const screen = await tmux.shows(new RegExp(`${question.source}[^\\n]*\\n(.*\\n)*?.*${answer}`));
  const lines = screen.slice(screen.lastIndexOf((question.exec(screen) ?? [""])[0])).split("\n");
  const down = lines.findIndex((line) => line.includes(answer)) - 1;
  await tmux.press(...Array.from({ length: down }, () => "Down"), "Enter");
}

async function answer(question: RegExp, text: string): Promise<void> {
  await tmux.shows(question);
  if (text !== "") await tmux.type(text);
  await tmux.press("Enter");
}

/** Goes through the questions up to what is to be restored. */
async function begin(what: string): Promise<void> {
  await tmux.run(installation.env, [findPrograms().coppice, "restore"]);
  await choose(/restore from which cluster\?/, "shop  ");
  await tmux.shows(/which backup\?[^]* (ago|just now) .*selection/);
  await tmux.press("Enter");
  await choose(/what is to be restored\?/, what);
}

test("Ctrl-C and a no at the confirmation leave everything as it is", async () => {
  const before = await portrait(fresh);
  await begin("only the globals");
  await choose(/where to\?/, "shop-new: another cluster");
  await tmux.shows(/the globals can be restored into shop-new[^]*creates the role app[^]*restore it now\?/);
  await tmux.press("C-c");
  expect(await tmux.exitCode()).toBe(130);
  await begin("the whole cluster");
  await choose(/where to\?/, "shop: in place");
  await tmux.shows(/orders replaces the present one[^]*type shop to go on:/);
  await tmux.press("C-c");
  expect(await tmux.exitCode()).toBe(130);
  await begin("the whole cluster");
  await choose(/where to\?/, "shop-new: another cluster");
  await tmux.shows(/the whole cluster can be restored into shop-new[^]*restore it now\?/);
  // The answer that nobody gives is no.
  await tmux.press("Enter");
  await tmux.shows(/nothing was restored/);
  expect(await tmux.exitCode()).toBe(0);
  expect(await portrait(fresh)).toBe(before);
  const kinds = await installation.json<{ operations: { kind: string }[] }>(["operation", "list"]);
  expect(kinds.operations.filter(({ kind }) => /^(create_restore|restore_)/.test(kind))).toEqual([]);
});

test("what a check would run is shown at a terminal, and run once the cluster's name was typed", async () => {
  const limit = () => fresh.sql("postgres", "show max_slot_wal_keep_size");
  const command = [findPrograms().coppice, "cluster", "check", "shop-new", "--fix"];
  const question =
    /ALTER SYSTEM SET max_slot_wal_keep_size = '4096MB';\n {2}SELECT pg_reload_conf\(\);\n[^]*type shop-new to go on:/;
  await tmux.run(installation.env, command);
  await answer(question, "shop");
  await tmux.shows(/this was not confirmed, nothing was changed/);
  expect(await tmux.exitCode()).toBe(2);
  expect(await limit()).toBe("-1");
  await tmux.run(installation.env, command);
  await answer(question, "shop-new");
  await tmux.shows(/mended: slot-limit/);
  expect(await tmux.exitCode()).toBe(0);
  expect(await limit()).toBe("4GB");
});

test("the globals go into another cluster", async () => {
  await begin("only the globals");
  await choose(/where to\?/, "shop-new: another cluster");
  await answer(/coppice restore create shop --globals --backup bkp_\w+ --to shop-new[^]*restore it now\?/, "y");
  await tmux.shows(/✓ the globals are restored in shop-new: 1 role and 0 tablespaces created/);
  expect(await tmux.exitCode()).toBe(0);
  expect(await fresh.sql("postgres", "select count(*) from pg_roles where rolname = 'app'")).toBe("1");
});

test("the whole cluster goes into another one", async () => {
  await begin("the whole cluster");
  await choose(/where to\?/, "shop-new: another cluster");
  await answer(/leaves as it is the roles app, [^]*1\. orders is made[^]*restore it now\?/, "y");
  await tmux.shows(/✓ shop-new is restored: 1 database/);
  expect(await tmux.exitCode()).toBe(0);
  expect(await fresh.sql("orders", "select count(*) from orders")).toBe("300");
});

test("a schema goes under a new name, and an empty answer is asked again", async () => {
  await begin("schemas of one database");
  await choose(/of which database\?/, "orders");
  await answer(/which schemas\?/, "");
  await tmux.shows(/type name, several separated by commas/);
  await answer(/which schemas\?/, 'sales, "north,south"');
  await choose(/where to\?/, "shop, under a new name");
  await answer(/name for the new database that holds them\?/, "");
  await answer(/--as orders-schemas --schema sales --schema north,south[^]*restore it now\?/, "y");
  await tmux.shows(/✓ orders-schemas is restored in shop/);
  expect(await tmux.exitCode()).toBe(0);
  const tables =
    "select string_agg(table_schema, ' ' order by table_schema) from information_schema.tables where table_name in ('sold', 'orders')";
  expect(await server.sql("orders-schemas", tables)).toBe("north,south sales");
});

/** Goes through the questions about that table up to what is shown before it is restored. */
async function wantTable(table: string): Promise<void> {
  await begin("tables of one database");
  await choose(/of which database\?/, "orders");
  await answer(/which tables\?/, table);
  await choose(/where to\?/, "shop, into the present orders");
}

test("a table goes into the present database, and one that is not in the backup is refused", async () => {
  await server.sql("orders", "drop table orders");
  await wantTable("public.order");
  await tmux.shows(/✗ [^]*public\.order/);
  expect(await tmux.exitCode()).not.toBe(0);
  await wantTable("public.orders");
  await answer(/--into --table public\.orders[^]*restore it now\?/, "y");
  await tmux.shows(/✓ orders is restored in shop/);
  expect(await tmux.exitCode()).toBe(0);
  expect(await server.sql("orders", "select count(*) from orders")).toBe("300");
});

test("an encrypted file is restored with its identity; with another one nothing is touched, and no identity stays", async () => {
  const [key, other] = [await makeAgeKey(), await makeAgeKey()];
  const file = join(installation.folder, "old.sql.age");
  const identity = join(installation.folder, "kit.txt");
  const wrong = join(installation.folder, "wrong.txt");
  await writeFile(identity, key.identityFile);
  await writeFile(wrong, other.identityFile);
  const sealed = await runProgram("age", ["-r", key.recipient, "-o", file], {
    env: { PATH: "/usr/bin:/bin" },
    input: "create table old (id int);\ninsert into old values (7);\n-- PostgreSQL database dump complete\n",
  });
  expect(sealed.code).toBe(0);
  const line = ["shop", "--from", `db7:${file}`, "--as", "old", "--identity"];
  const untrusted = await installation.coppice(["restore", "plan", ...line, identity]);
  expect(untrusted.stderr).toMatch(/host db7 may not decrypt[^]*may-decrypt=true/);
  await installation.must(["host", "update", "db7", "--label", "may-decrypt=true"]);

  const begin = async (identityFile: string) => {
    await tmux.run(installation.env, [findPrograms().coppice, "restore"]);
    await choose(/restore from which cluster\?/, "none of them: a dump that Coppice did not make");
    await choose(/into which cluster\?/, "shop");
    await answer(/which file.*\?/, "old.sql");
    await tmux.shows(/write HOST:\/path, for example/);
    await tmux.press("C-u");
    await answer(/which file.*\?/, `db7:${file}`);
    await answer(/age identity file on this machine/, identityFile);
    await answer(/database in it, if it is of a whole cluster\?/, "");
    await choose(/where to\?/, "shop, under a new name");
    await answer(/name for the restored database\?/, "old");
  };
  const before = await portrait(server);
  await begin(wrong);
  await tmux.shows(/encrypted to other recipients, or damaged/);
  expect(await tmux.exitCode()).not.toBe(0);
  const refused = await installation.coppice(["restore", "create", ...line, wrong]);
  expect([refused.code, refused.stdout]).toEqual([4, ""]);
  expect(refused.stderr).toContain("is encrypted to other recipients, or damaged");
  const missing = await installation.coppice(["restore", "plan", ...line.slice(0, -1)]);
  expect(missing.stderr).toMatch(/next: .*--identity/);
  expect(await portrait(server)).toBe(before);

  await begin(identity);
  await answer(/--from db7:\S+ --identity \S+kit.txt --as old[^]*restore it now\?/, "y");
  await tmux.shows(/✓ old is restored in shop/);
  expect(await server.sql("old", "select id from old")).toBe("7");
  const said = await installation.must(["operation", "list", "-o", "json"]);
  const audit = await installation.must(["audit", "list", "-o", "json"]);
  expect(said + audit).not.toContain("AGE-SECRET-KEY");
});
