import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { makeAgeKey } from "../support/dumps/age-key.ts";
import { type Installation, openInstallation } from "../support/installation.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";
import { findPrograms } from "../support/programs.ts";
import { runProgram } from "../support/run-program.ts";
import { openTmux, type Tmux } from "../support/scenarios/tmux.ts";

let installation: Installation;
let server: PostgresServer;
let tmux: Tmux;

beforeAll(async () => {
  [installation, server, tmux] = await Promise.all([openInstallation(), openPostgresServer({ major: 15 }), openTmux()]);
  await installation.addAgent("db7");
  const folder = join(installation.folder, "backups");
  await mkdir(folder);
  await installation.must(["repo", "add", "main", `db7:${folder}`]);
  await server.sql("postgres", "create database orders");
  await server.sql("orders", "create table orders as select i as id from generate_series(1, 300) i");
  const endpoint = `127.0.0.1:${server.port}`;
  const add = ["cluster", "add", "shop", "--host", "db7", "--endpoint", endpoint, "--password-stdin"];
  await installation.must(add, { input: server.password });
  await installation.must(["backup", "create", "shop", "--database", "orders"]);
});
afterAll(async () => {
  await tmux?.[Symbol.asyncDispose]();
  await server?.[Symbol.asyncDispose]();
  await installation?.[Symbol.asyncDispose]();
});

const operations = async () => {
  const list = ["operation", "list", "--cluster", "shop"];
  return (await installation.json<{ operations: { kind: string }[] }>(list)).operations.map(({ kind }) => kind);
};

/** Goes through the questions up to what is done about the present database. */
async function answerUpToPlace(): Promise<void> {
  await tmux.run(installation.env, [findPrograms().coppice, "restore"]);
  await tmux.shows(/restore from which cluster\?/);
  await tmux.press("Enter");
  await tmux.shows(/which backup\?[^]* (ago|just now) .*selection/);
  await tmux.press("Enter");
  await tmux.shows(/what is to be restored\?/);
  await tmux.press("Enter");
  await tmux.shows(/which databases\?/);
  await tmux.press("Space", "Enter");
  await tmux.shows(/where to\?/);
}

test("the dialogue restores a database under a new name and says the line that does the same", async () => {
  await answerUpToPlace();
  await tmux.press("Enter");
  await tmux.shows(/name for the restored orders\?/);
  await tmux.press("Enter");
  await tmux.shows(
    /the same as one line: coppice restore create shop --database orders --backup bkp_\w{26} --as orders-copy/,
  );
  await tmux.shows(/restore it now\?/);
  await tmux.press("y", "Enter");
  await tmux.shows(/✓ orders-copy is restored in shop/);
  expect(await tmux.exitCode()).toBe(0);
  expect(await server.sql("orders-copy", "select count(*) from orders")).toBe("300");
});

test("what replaces the present database is done only after its name was typed", async () => {
  await server.sql("orders", "delete from orders");
  await answerUpToPlace();
  await tmux.press("Down", "Enter");
  await tmux.shows(/--replace[^]*everybody in it is disconnected[^]*type orders to go on:/);
  await tmux.type("order");
  await tmux.press("Enter");
  await tmux.shows(/this was not confirmed, nothing was changed/);
  expect(await tmux.exitCode()).toBe(2);
  expect(await server.sql("orders", "select count(*) from orders")).toBe("0");

  await answerUpToPlace();
  await tmux.press("Down", "Enter");
  await tmux.shows(/type orders to go on:/);
  await tmux.type("orders");
  await tmux.press("Enter");
  await tmux.shows(/✓ orders is restored in shop[^]*is kept as orders_before_\d+/);
  expect(await tmux.exitCode()).toBe(0);
  expect(await server.sql("orders", "select count(*) from orders")).toBe("300");
});

test("what was shown is what is restored, also when a newer backup ends before it is confirmed", async () => {
  const backup = ["backup", "create", "shop", "-o", "name"];
  const shown = (await installation.must(backup)).trim();
  const replace = ["restore", "create", "shop", "--database", "orders", "--replace"];
  await tmux.run(installation.env, [findPrograms().coppice, ...replace]);
  await tmux.shows(/everybody in it is disconnected[^]*type orders to go on:/);
  await server.sql("orders", "insert into orders values (301)");
  await installation.must(backup);
  await tmux.type("orders");
  await tmux.press("Enter");
  await tmux.shows(new RegExp(`✓ orders is restored in shop[^]*from ${shown}`));
  expect(await tmux.exitCode()).toBe(0);
  expect(await server.sql("orders", "select count(*) from orders")).toBe("300");
});

test("Ctrl-C at a question ends it, and nothing was asked of anybody", async () => {
  const before = await operations();
  await answerUpToPlace();
  await tmux.press("C-c");
  expect(await tmux.exitCode()).toBe(130);
  expect(await operations()).toEqual(before);
});

test("without a terminal it says which flags to give", async () => {
  const { code, stdout, stderr } = await installation.coppice(["restore"]);
  expect([code, stdout]).toEqual([2, ""]);
  expect(stderr).toContain("there is no terminal to ask at");
  expect(stderr).toContain("next: say it by flags: coppice restore create CLUSTER --database NAME --as COPY");
});

test("the recovery identity is proved by typing what age prints of the probe, and by nothing else", async () => {
  const key = await makeAgeKey();
  const identity = join(installation.folder, "safe.txt");
  await writeFile(identity, key.identityFile, { mode: 0o600 });
  const place = join(installation.folder, "safe");
  await mkdir(place);
  const add = ["repository", "add", "safe", `db7:${place}`, "--recovery-recipient", key.recipient];
  const probed = /(-----BEGIN AGE ENCRYPTED FILE-----[^]*-----END AGE ENCRYPTED FILE-----)[^]*what it prints:/;
  await tmux.run(installation.env, [findPrograms().coppice, ...add]);
  await tmux.shows(probed);
  await tmux.type("a guess");
  await tmux.press("Enter");
  await tmux.shows(/✗ .*\n +next: /);
  expect(await tmux.exitCode()).toBe(4);

  await tmux.run(installation.env, [findPrograms().coppice, ...add]);
  const [, probe = ""] = probed.exec(await tmux.shows(probed)) ?? [];
  const env = { PATH: process.env["PATH"] };
  const { stdout } = await runProgram("age", ["-d", "-i", identity], { env, input: `${probe}\n` });
  await tmux.type(stdout.trim());
  await tmux.press("Enter");
  await tmux.shows(/✓ repository safe is added: .*, encrypted; not tried yet/);
  expect(await tmux.exitCode()).toBe(0);
});

test("credentials come from standard input, by a pipe and at the terminal, and are shown nowhere", async () => {
  const secret = "hunter2hunter2hunter2";
  const yaml = (id: string) => `write: { access_key_id: ${id}, secret_access_key: ${secret} }`;
  const add = (name: string) => ["repository", "add", name, `s3://acme/${name}`, "--credentials", "-"];
  const said = await installation.must(add("piped"), { input: `${yaml("AKPIPED")}\n` });
  await tmux.run(installation.env, [findPrograms().coppice, ...add("typed")]);
  await tmux.type(yaml("AKTYPED"));
  await tmux.press("Enter", "C-d");
  const screen = await tmux.shows(/✓ repository typed is added: s3:\/\/acme\/typed|✗/);
  expect(await tmux.exitCode(), screen).toBe(0);
  for (const name of ["piped", "typed"]) {
    const found = await installation.json<{ credentials: { write: string } }>(["repository", "get", name]);
    expect(found.credentials.write).toMatch(/^sec_/);
    expect(JSON.stringify(found) + said).not.toContain(secret);
  }
  const nothing = await installation.coppice(add("none"), { input: "" });
  expect(nothing).toMatchObject({ code: 2, stdout: "" });
});
