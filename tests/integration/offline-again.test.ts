import { spawnSync } from "node:child_process";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type DumpLab, openDumpLab } from "../support/dumps/dump-lab.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";

let [server, fresh]: PostgresServer[] = [];
let lab: DumpLab;
beforeAll(async () => {
  [server, fresh] = await Promise.all([openPostgresServer({ major: 18 }), openPostgresServer({ major: 18 })]);
  lab = await openDumpLab(server);
  await server.sql("postgres", "create database shop");
  await server.sql("shop", "create table t as select generate_series(1, 100) as id");
  await lab.dump(lab.dumpCommand());
});
afterAll(async () => {
  await lab?.[Symbol.asyncDispose]();
  await server?.[Symbol.asyncDispose]();
  await fresh?.[Symbol.asyncDispose]();
});

const main = join(import.meta.dirname, "../../agent/src/main.ts");
function run(...args: string[]) {
  if (!fresh) throw new Error("no server");
  const to = ["--repo", lab.repository, "--to", `127.0.0.1:${fresh.port}`, "--user", fresh.superuser];
  const env = { ...process.env, PGPASSWORD: fresh.password };
  return spawnSync(process.execPath, [main, "restore", "shop", ...to, ...args], { encoding: "utf8", env });
}
const restore = (...args: string[]) => run("--all", ...args);
const query = async (database: string, text: string) => (await fresh?.sql(database, text))?.trim();

test("a database in which somebody has made anything at all is not taken for one of a new cluster", async () => {
  for (const [make, drop] of [
    ["create text search configuration mine (copy = simple)", "drop text search configuration mine"],
    ["create collation mine (locale = 'C')", "drop collation mine"],
    [
      "alter default privileges grant select on tables to public",
      "alter default privileges revoke select on tables from public",
    ],
  ] as const) {
    await fresh?.sql("postgres", make);
    expect(restore("--plan"), make).toMatchObject({
      status: 4,
      stderr: expect.stringContaining('"postgres"') as unknown,
    });
    await fresh?.sql("postgres", drop);
  }
  expect(await query("postgres", "select count(*) from pg_database")).toBe("3");
});

test("a backup of a host whose clock was ahead is not the newest for ever", async () => {
  const folder = join(lab.repository, "cls_test/backups");
  const [first = ""] = await readdir(folder);
  const file = join(folder, first, "manifest.json");
  await writeFile(file, (await readFile(file, "utf8")).replace(/"startTime": "20\d\d/, '"startTime": "2099'));
  const { result } = await lab.dump(lab.dumpCommand());
  const { stdout } = spawnSync(process.execPath, [main, "ls", "--repo", lab.repository], { encoding: "utf8" });
  expect(stdout).toContain("2099");
  expect(stdout).toContain(`last good ${result.manifest?.backupId}`);
});

test("what an earlier run has put into place is told from what was restored just now", async () => {
  const { result } = await lab.dump(lab.dumpCommand({ databases: ["shop"] }));
  const ofShop = ["--backup", result.manifest?.backupId ?? ""];
  expect(restore(...ofShop)).toMatchObject({ status: 0 });
  await fresh?.sql("shop", "delete from t");
  const again = restore(...ofShop);
  expect(again.status).toBe(0);
  expect(again.stdout).toContain(
    "✓ shop is in place already, from an earlier run\n  ! it was not looked at: what was changed in it since stays; --replace",
  );
  expect(restore(...ofShop, "--replace", "--yes")).toMatchObject({ status: 0 });
  expect(await query("shop", "select count(*) from t")).toBe("100");
});

test("a newest backup that cannot be read is named, and an older one taken only when it is said", async () => {
  const [older, newest] = [await lab.dump(lab.dumpCommand()), lab.dumpCommand()];
  await lab.dump(newest);
  const { backupId = "", folder = "" } = newest.backup ?? {};
  await writeFile(join(lab.repository, "cls_test/backups", folder, "manifest.json"), "{");
  const olderId = older.result.manifest?.backupId ?? "";
  const refused = run("--database", "shop", "--as", "shop_copy");
  expect(refused).toMatchObject({ status: 1, stdout: "" });
  expect(refused.stderr).toContain(
    `shop has a backup ${backupId} that cannot be read, which may be newer than ${olderId}`,
  );
  expect(refused.stderr).toContain(`next: if the older one is to be restored, say so: --backup ${olderId}\n`);
  const taken = run("--database", "shop", "--as", "shop_copy", "--backup", olderId);
  expect(taken).toMatchObject({ status: 0 });
  expect(taken.stdout).toMatch(new RegExp(`^${olderId} of shop, taken \\d{4}-.*, into 127.0.0.1:\\d+\n✓ shop_copy is`));
});

test("what a backup leaves out on purpose is said by the plan and by the restore of one database", async () => {
  const { result } = await lab.dump(lab.dumpCommand({ databases: ["shop"], excludeTableData: ["t"] }));
  const partial = ["--backup", result.manifest?.backupId ?? "", "--database", "shop", "--as", "without-rows"];
  const planned = run(...partial, "--plan");
  expect(planned, planned.stderr).toMatchObject({
    status: 0,
    stdout: expect.stringMatching(/! left-out .*rows of t$/m) as unknown,
  });
  const restored = run(...partial);
  expect(restored, restored.stderr).toMatchObject({
    status: 0,
    stdout: expect.stringMatching(/ {2}! .*rows of t$/m) as unknown,
  });
  expect(await query("without-rows", "select count(*) from t")).toBe("0");
  const all = run("--all", "--replace", "--plan", ...partial.slice(0, 2));
  expect(all.stdout).toMatch(/^! the backup leaves out: all but databases shop$/m);
});

test("the plan of a restore under a name that is taken does not say what replacing would do", async () => {
  await lab.dump(lab.dumpCommand());
  const planned = run("--database", "shop", "--as", "postgres", "--plan");
  expect(planned.status).toBe(4);
  expect(planned.stderr).toContain("exists already");
  expect(planned.stdout).toContain("1. create the database");
  expect(planned.stdout).not.toMatch(/to ""|end the \d+ sessions/);
});

test("a listing that finds no cluster ends with 3, and names the folders in it that are repositories", () => {
  const place = join(lab.repository, "..");
  const listed = spawnSync(process.execPath, [main, "ls", "--repo", place], { encoding: "utf8" });
  expect(listed).toMatchObject({ status: 3, stderr: "" });
  expect(listed.stdout).toContain(`repositories lie in its folders ${basename(lab.repository)}: name one of them`);
  const empty = spawnSync(process.execPath, [main, "ls", "--repo", import.meta.dirname], { encoding: "utf8" });
  expect(empty).toMatchObject({ status: 3, stdout: expect.not.stringContaining("repositories lie") as unknown });
});
