import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { portrayDatabase } from "../support/dumps/database-portrait.ts";
import { type Installation, openInstallation, waitFor } from "../support/installation.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";
import { type Gate, putGate } from "../support/scenarios/gate.ts";
import { addCluster, addRepository } from "../support/scenarios/protect.ts";

let installation: Installation;
let source: PostgresServer;
let fresh: PostgresServer;
let gate: Gate;

beforeAll(async () => {
  [installation, source, fresh] = await Promise.all([
    openInstallation({ heartbeat: "1s" }),
    openPostgresServer({ major: 15 }),
    openPostgresServer({ major: 15 }),
  ]);
  await installation.addAgent("db7");
  await addRepository(installation, "main", "db7");
  await addCluster(installation, "shop", { host: "db7", server: source });
  await addCluster(installation, "shop-new", { host: "db7", server: fresh });
  await source.sql("postgres", "create role app");
  for (const name of ["orders", "stock"]) await source.sql("postgres", `create database ${name} owner app`);
  await source.sql("stock", "create table kept as select i as id from generate_series(1, 500) i");
  gate = await putGate(source, "orders");
  await installation.must(["backup", "create", "shop"]);
});
afterAll(async () => {
  await gate?.open();
  await installation?.[Symbol.asyncDispose]();
  await source?.[Symbol.asyncDispose]();
  await fresh?.[Symbol.asyncDispose]();
});

interface Listed {
  readonly id: string;
  readonly state: string;
  readonly createRestore?: { readonly database: string };
  readonly restoredCluster?: { readonly restored?: readonly string[]; readonly notRestored?: readonly string[] };
}

/** Each part by what it is of, with its state, in order. */
async function partsOf(group: string): Promise<[string, string][]> {
  const list = ["operation", "list", "--parent", group];
  const { operations } = await installation.json<{ operations: Listed[] }>(list);
  return operations
    .toReversed()
    .map(({ createRestore, state }) => [createRestore?.database ?? "globals", state.replace("OPERATION_STATE_", "")]);
}

const databases = async () =>
  (
    await fresh.sql("postgres", "select datname from pg_database where datname !~ 'template|_before_' order by 1")
  ).split("\n");

test("an agent killed with a cluster half restored: nothing half-done is called done, and repeating works", async () => {
  const inFresh = join(fresh.dataDir, "gate");
  await writeFile(inFresh, "");
  const all = ["restore", "create", "shop", "--all", "--to", "shop-new"];
  const group = (await installation.must([...all, "--no-wait", "-o", "name"])).trim();
  await waitFor("the restore of orders stands before the gate", async () => {
    const waiting =
      "select from pg_stat_activity where datname like 'coppice\\_restore\\_%' and wait_event = 'PgSleep'";
    return (await fresh.sql("postgres", `select exists (${waiting})`)) === "t";
  });
  await installation.agent("db7").end("SIGKILL");
  const [globals, template, orders, ...rest] = await partsOf(group);
  expect([globals, template, ...rest]).toEqual([
    ["globals", "SUCCEEDED"],
    ["template1", "SUCCEEDED"],
    ["postgres", "QUEUED"],
    ["stock", "QUEUED"],
  ]);
  expect(orders?.[1]).toMatch(/^(RUNNING|INDETERMINATE)$/);
  const shown = await installation.must(["operation", "get", group]);
  expect(shown).toMatch(/PART +OF +STATE +TOOK\n.*globals +succeeded[^]*stock +queued/);
  expect(shown).not.toMatch(/is restored/);

  await rm(inFresh);
  installation.startAgent("db7");
  const watched = await installation.coppice(["operation", "watch", group]);
  expect(watched.code, watched.stderr).toBe(8);
  expect(watched.stderr).toMatch(/restored and in place: template1\n.*not restored: orders, postgres, stock/);
  expect(watched.stderr).toContain("  to repeat it, what is in place is swapped with --replace\n");
  expect(watched.stderr).toMatch(/op_\w+ \(the globals\) has succeeded: 1 role and 0 tablespaces created/);
  expect(await partsOf(group)).toEqual([
    ["globals", "SUCCEEDED"],
    ["template1", "SUCCEEDED"],
    ["orders", "FAILED"],
    ["postgres", "CANCELLED"],
    ["stock", "CANCELLED"],
  ]);
  expect(await databases(), "what was half made is cleared away").toEqual(["postgres"]);
  const told = (await installation.must(["operation", "logs", group])).trim().split("\n");
  expect(told.map((line) => line.replace(/^\S+ op_\w+ /, "").replace(/: .*/, ""))).toEqual([
    "(the globals) has begun",
    "(the globals) has succeeded",
    '(database "template1") has begun',
    '(database "template1") has succeeded',
    '(database "orders") has begun',
    '(database "orders") is indeterminate',
    '(database "orders") has failed',
    '(database "postgres") is cancelled',
    '(database "stock") is cancelled',
  ]);

  const again = await installation.json<Listed>([...all, "--replace", "--yes"]);
  expect(again.restoredCluster?.restored).toEqual(["template1", "orders", "postgres", "stock"]);
  expect(await databases()).toEqual(["orders", "postgres", "stock"]);
  for (const name of ["orders", "stock"])
    expect(await portrayDatabase(fresh, name)).toBe(await portrayDatabase(source, name));
});
