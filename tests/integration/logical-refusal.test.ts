import { execFileSync } from "node:child_process";
import { chown, mkdir, open, readdir } from "node:fs/promises";
import { join } from "node:path";
import { toJsonString } from "@bufbuild/protobuf";
import { PlanRestoreResultSchema } from "@coppice/proto/gen/coppice/agent/v1/plan_restore";
import { type RestoreDatabaseCommand, RestoreMode } from "@coppice/proto/gen/coppice/agent/v1/restore_database";
import { CheckStatus } from "@coppice/proto/gen/coppice/common/v1/check";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import type { Dumped } from "../../agent/src/logical/dump/dump.ts";
import { planRestore, type RestoreToPlan } from "../../agent/src/logical/plan.ts";
import { openStorage } from "../../agent/src/storage/open.ts";
import { dumpContent } from "../support/dumps/dump-content.ts";
import { type DumpLab, openDumpLab } from "../support/dumps/dump-lab.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";

const isRoot = process.getuid?.() === 0;
let server: PostgresServer;
let lab: DumpLab;
let dumped: Dumped;

beforeAll(async () => {
  server = await openPostgresServer({ major: 18 });
  lab = await openDumpLab(server);
  await server.sql("postgres", "create role keeper; create database shop owner keeper");
  await server.sql("shop", "create table t as select generate_series(1, 100) as id; alter table t owner to keeper");
  dumped = await lab.dump(lab.dumpCommand({ databases: ["shop"] }));
});
afterAll(async () => {
  await lab?.[Symbol.asyncDispose]();
  await server?.[Symbol.asyncDispose]();
});
/** Each test finds an original without rows, and nothing else. */
beforeEach(async () => {
  for (const name of await names()) await server.sql("postgres", `drop database "${name}" with (force)`);
  await server.sql("postgres", "create database shop owner keeper");
  await server.sql("shop", "create table t (id int); alter table t owner to keeper");
});
const names = async () =>
  (await server.sql("postgres", "select datname from pg_database where oid > 16383 order by 1"))
    .split("\n")
    .filter(Boolean);
const replacing = () => lab.restoreCommand(dumped, "shop", "shop", RestoreMode.REPLACE);

async function withStorage<T>(
  command: RestoreDatabaseCommand,
  work: (request: RestoreToPlan) => Promise<T>,
): Promise<T> {
  const location = command.backup?.repository?.location;
  if (!location) throw new Error("no repository");
  const signal = AbortSignal.timeout(30_000);
  await using storage = await openStorage(location, { operationId: "op_look", signal });
  return await work({
    command,
    password: server.password,
    identities: undefined,
    files: lab.files,
    storage,
    workFolder: lab.workFolder,
    signal,
  });
}

test("a plan changes nothing and says what a restore would do", async () => {
  const command = replacing();
  const plan = await withStorage(command, planRestore);
  expect(plan.items.map(({ name, status }) => [name, status])).toEqual(
    // oxfmt-ignore
    ["backup", "connection", "version", "tools", "primary", "privileges", "target", "roles", "space", "locale", "connections"].map((name) => [name, CheckStatus.OK]),
  );
  expect(plan).toMatchObject({ keptAs: command.keptDatabase, sessionsToEnd: 0 });
  expect(plan.storedBytes).toBeGreaterThan(0n);
  expect(toJsonString(PlanRestoreResultSchema, plan)).not.toContain(server.password);
  expect(await names()).toEqual(["shop"]);
});

test("a restore stops before it touches anything when the name is taken, a role is missing, or the backup lacks it", async () => {
  await expect(lab.restore(lab.restoreCommand(dumped, "shop", "shop"))).rejects.toMatchObject({
    reason: "DATABASE_EXISTS",
  });
  await expect(lab.restore(lab.restoreCommand(dumped, "shpo", "new"))).rejects.toMatchObject({
    reason: "DATABASE_NOT_IN_BACKUP",
  });
  await server.sql("postgres", "alter role keeper rename to renamed");
  await expect(lab.restore(replacing())).rejects.toMatchObject({
    reason: "ROLE_MISSING",
    message: expect.stringContaining('"keeper"') as unknown,
  });
  await server.sql("postgres", "alter role renamed rename to keeper");
  expect(await names()).toEqual(["shop"]);
});

test("a restore by several jobs without a folder to work in fails clearly, and touches nothing", async () => {
  const command = { ...replacing(), jobs: 2 };
  await expect(lab.restore(command, { workFolder: join(lab.folder, "gone") })).rejects.toMatchObject({
    reason: "DATA_FOLDER_UNUSABLE",
  });
  expect(await names()).toEqual(["shop"]);
});

// Only root may mount a small file system.
test.runIf(isRoot)("a folder to work in that is too small is said to be, before the original is touched", async () => {
  await server.sql("shop", "create table wide as select md5(g::text) as text from generate_series(1, 200000) g");
  const wide = await lab.dump(lab.dumpCommand({ databases: ["shop"] }));
  const workFolder = join(lab.folder, "small");
  await mkdir(workFolder);
  execFileSync("mount", ["-t", "tmpfs", "-o", "size=2m", "coppice-test", workFolder]);
  try {
    const command = { ...lab.restoreCommand(wide, "shop", "shop", RestoreMode.REPLACE), jobs: 2 };
    await expect(lab.restore(command, { workFolder })).rejects.toMatchObject({
      reason: "SPACE_MISSING",
      message: expect.stringContaining(workFolder) as unknown,
    });
    expect(await readdir(workFolder)).toEqual([]);
    expect(await names()).toEqual(["shop"]);
  } finally {
    execFileSync("umount", [workFolder]);
  }
});

test.each([1, 2])("what pg_restore says, and each step before and after it, is in the log: jobs %i", async (jobs) => {
  await server.sql("postgres", "create database picky");
  await server.sql(
    "picky",
    `create function is_at_home() returns boolean language sql as $$ select current_database() = 'picky' $$;
     create table a (i int check (is_at_home())); insert into a values (1)`,
  );
  const picky = await lab.dump(lab.dumpCommand({ databases: ["picky"] }));
  const command = { ...lab.restoreCommand(picky, "picky", "copy"), jobs };
  const log: string[] = [];
  await expect(lab.restore(command, { log: (line) => log.push(line) })).rejects.toMatchObject({
    reason: "PROGRAM_FAILED",
  });
  expect(log[0]).toBe(`created the database ${command.stagedDatabase} beside what is there`);
  expect(log[1]).toMatch(/^loading "picky", \d+ B$/);
  expect(log.filter((line) => /^pg_restore: error: .*violates check constraint/.test(line))).toHaveLength(1);
  expect(log.at(-1)).toBe(`dropped the database ${command.stagedDatabase}`);
});

test("an ordinary role that may create databases restores one of its own", async () => {
  await server.sql("postgres", "alter role keeper login createdb password 'keeper-of-t'");
  const command = replacing();
  if (command.connection?.endpoint) command.connection.endpoint.user = "keeper";
  await server.sql("postgres", "create role stranger");
  const mayEnter = `select datname, has_database_privilege('stranger', oid, 'connect') from pg_database
    where datname in ('shop', '${command.stagedDatabase}') order by 1`;
  const seen: string[] = [];
  const askNow = (text: string) => {
    const address = ["-h", "127.0.0.1", "-p", String(server.port), "-U", server.superuser];
    const env = { ...process.env, PGPASSWORD: server.password };
    return execFileSync(join(server.binDir, "psql"), [...address, "-Atqc", text, "postgres"], { env }).toString();
  };
  const log = (line: string) => void (line.startsWith("loaded;") && seen.push(askNow(mayEnter)));
  const restored = await lab.restore(command, { password: "keeper-of-t", log });
  expect(restored).toMatchObject({ rows: 100n, warnings: [] });
  // Closed while it is filled, and afterwards as open as the original was.
  expect(seen[0]).toBe(`${command.stagedDatabase}|f\nshop|t\n`);
  expect(askNow(mayEnter)).toBe("shop|t\n");
  await server.sql("postgres", "drop role stranger");
  await server.sql("postgres", "alter role keeper nocreatedb");
  const refused = lab.restore({ ...command, keptDatabase: "another" }, { password: "keeper-of-t" });
  await expect(refused).rejects.toMatchObject({ reason: "PRIVILEGE_MISSING" });
});

test("what lay in a tablespace that is gone goes into the default one, with a warning", async () => {
  const folder = join(server.socketDir, "space");
  await mkdir(folder);
  await chown(folder, server.owner.uid, server.owner.gid);
  await server.sql("postgres", `create tablespace space location '${folder}'`);
  await server.sql("postgres", "create database spaced tablespace space");
  await server.sql(
    "spaced",
    "create table a (i int); create table b (i int) tablespace pg_default; insert into a values (1)",
  );
  const spaced = await lab.dump(lab.dumpCommand({ databases: ["spaced"] }));
  expect(await lab.restore(lab.restoreCommand(spaced, "spaced", "same"))).toMatchObject({ rows: 1n, warnings: [] });
  const where =
    "select spcname from pg_database d join pg_tablespace t on t.oid = dattablespace where datname = 'same'";
  expect(await server.sql("postgres", where)).toBe("space");
  await server.sql("postgres", "drop database same");
  await server.sql("postgres", "drop database spaced");
  await server.sql("postgres", "drop tablespace space");
  const result = await lab.restore(lab.restoreCommand(spaced, "spaced", "elsewhere"));
  expect(result).toMatchObject({ rows: 1n, tables: 2, warnings: [expect.stringContaining('"space"') as unknown] });
});

test("stored bytes that are not the ones that were written are never put into place", async () => {
  const damaged = await lab.dump(lab.dumpCommand({ databases: ["shop"] }));
  const stream = dumpContent(damaged.result.manifest)?.databases[0]?.stream;
  const command = lab.restoreCommand(damaged, "shop", "shop", RestoreMode.REPLACE);
  const place = join(
    lab.repository,
    "cls_test",
    "backups",
    command.backup?.folder ?? "",
    stream?.objects[0]?.key ?? "",
  );
  await using file = await open(place, "r+");
  const { size } = await file.stat();
  await file.write(Buffer.from([0x55, 0xaa]), 0, 2, size - 6);
  await expect(lab.restore(command)).rejects.toMatchObject({
    reason: expect.stringMatching(/DIGEST_MISMATCH|PROGRAM_FAILED/) as unknown,
  });
  expect(await names()).toEqual(["shop"]);
});

test("the database that the agent works from can be replaced too", async () => {
  const whole = await lab.dump(lab.dumpCommand({ databases: ["postgres"] }));
  const command = lab.restoreCommand(whole, "postgres", "postgres", RestoreMode.REPLACE);
  const result = await lab.restore(command);
  expect(result.keptAs).toBe(command.keptDatabase);
  expect(
    await server.sql("postgres", `select count(*) from pg_database where datname = '${command.keptDatabase}'`),
  ).toBe("1");
});
