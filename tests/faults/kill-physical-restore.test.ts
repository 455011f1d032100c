// A physical restore in the place of another cluster is killed at each of its steps. Never is there half a cluster that
// starts, the former one is always whole, and what is left is found and taken back by a settling or by the next run.
import { spawnSync } from "node:child_process";
import { chown, mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { create, fromJsonString, toJsonString } from "@bufbuild/protobuf";
import {
  type RestorePhysicalCommand,
  RestorePhysicalCommandSchema,
  RestorePhysicalResultSchema,
  TablespacePlaceSchema,
} from "@coppice/proto/gen/coppice/agent/v1/restore_physical";
import { RecoveryAction, RecoveryTargetSchema } from "@coppice/proto/gen/coppice/common/v1/recovery_target";
import type { BackupAddress } from "@coppice/proto/gen/coppice/agent/v1/repository_target";
import { afterAll, beforeAll, expect, test } from "vitest";
import { settlePhysical } from "../../agent/src/physical/restore/settle.ts";
import { readPidOf } from "../../agent/src/physical/restore/directory/running-server.ts";
import { openPhysicalLab, type PhysicalLab } from "../support/physical/physical-lab.ts";
import { openRestoreLab, type RestoreLab } from "../support/physical/restore-lab.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";
import { asServer } from "../support/scenarios/restored-server.ts";

const program = new URL("../support/physical/restore-and-die.ts", import.meta.url).pathname;
const stack = new AsyncDisposableStack();
let server: PostgresServer;
let backups: PhysicalLab;
let lab: RestoreLab;
/** Of a full backup, and of an incremental on it. */
let command: RestorePhysicalCommand;
let chained: RestorePhysicalCommand;

beforeAll(async () => {
  server = stack.use(await openPostgresServer({ major: 18, settings: { summarize_wal: "on" } }));
  backups = stack.use(await openPhysicalLab(server));
  lab = stack.use(await openRestoreLab(server, backups.repository));
  const space = await ownFolder("source-space");
  await server.sql("postgres", `create tablespace extra location '${space}'`);
  await server.sql("postgres", "create table t as select generate_series(1, 1000) as id");
  await server.sql("postgres", "create table moved tablespace extra as select * from t");
  const chain: BackupAddress[] = [];
  for (const incremental of [false, true]) {
    const parent = chain.at(-1);
    const taken = Object.assign(backups.command(), { incremental, ...(parent ? { parent } : {}) });
    await backups.take(taken);
    chain.push(taken.backup);
    await server.sql("postgres", "insert into moved select generate_series(1, 7)");
  }
  const oid = Number(await server.sql("postgres", "select oid from pg_tablespace where spcname = 'extra'"));
  const tablespaces = [create(TablespacePlaceSchema, { oid, location: join(lab.folder, "space") })];
  chained = create(RestorePhysicalCommandSchema, {
    ...(await lab.command("data", chain, { replace: true })),
    tablespaces,
  });
  command = create(RestorePhysicalCommandSchema, { ...chained, chain: chained.chain.slice(0, 1) });
  await writeFile(join(await ownFolder("data"), "precious"), "yes");
  await ownFolder("space");
});
afterAll(() => stack.disposeAsync());

async function ownFolder(name: string): Promise<string> {
  const folder = join(lab.folder, name);
  await mkdir(folder);
  await chown(folder, server.owner.uid, server.owner.gid);
  return folder;
}

function run(step: string, restore = command) {
  const input = toJsonString(RestorePhysicalCommandSchema, restore);
  return spawnSync(process.execPath, [program, step], { encoding: "utf8", input, timeout: 110_000 });
}
const settle = (noted?: string) =>
  settlePhysical({
    command,
    operationId: "op_restore",
    noted: noted === undefined ? undefined : fromJsonString(RestorePhysicalResultSchema, noted),
    signal: AbortSignal.timeout(60_000),
  });
const pausing = create(RecoveryTargetSchema, {
  point: { case: "immediate" as const, value: true },
  action: RecoveryAction.PAUSE,
});
const traces = async () => (await readdir(lab.folder)).filter((name) => name !== "source-space").toSorted();

/** Where the former content is: in its place, or whole under the name of what is kept. */
async function findPrecious(): Promise<string[]> {
  const folders = (await readdir(lab.folder)).filter((name) => /^data(\.before-|$)/.test(name));
  const found: string[] = [];
  for (const name of folders) if ((await readdir(join(lab.folder, name))).includes("precious")) found.push(name);
  return found;
}

/** What is in the place of the data directory is no cluster that a server would start. */
async function expectNoCluster(step: string): Promise<void> {
  const { code } = await asServer(server, "pg_ctl", ["-D", command.dataDirectory, "-s", "-w", "-t", "20", "start"]);
  expect(code, step).not.toBe(0);
}

async function expectFormer(step: string): Promise<void> {
  expect(await readPidOf(command.dataDirectory), step).toBeUndefined();
  expect(await readdir(command.dataDirectory), step).toEqual(["precious"]);
  expect(await traces(), step).toEqual(["data", "space"]);
  expect(await readdir(join(lab.folder, "space")), step).toEqual([]);
}

test("a tablespace's folder that it had made goes, too", async () => {
  const [{ oid } = { oid: 0 }] = command.tablespaces;
  const tablespaces = [create(TablespacePlaceSchema, { oid, location: join(lab.folder, "made") })];
  expect(run("comparing", create(RestorePhysicalCommandSchema, { ...command, tablespaces }))).toMatchObject({
    signal: "SIGKILL",
  });
  expect(await traces()).toContain("made");
  await settle();
  expect(await traces()).toEqual(["data", "space"]);
});

test.each(["rename 1 restore.json.new$", "unpacking", "comparing", "combining", "syncing"])(
  "killed at the step '%s' it has touched nothing, and what it left is named",
  async (step) => {
    expect(run(step, step === "combining" ? chained : command)).toMatchObject({ signal: "SIGKILL" });
    expect(await findPrecious()).toEqual(["data"]);
    const { outcome, removed } = await settle();
    expect(outcome).toBeUndefined();
    expect(removed).toEqual([expect.stringContaining("the staging folder ")]);
    await expectFormer(step);
  },
);

test.each([
  "rename 1 /0/global/pg_control$",
  // Written down is that the place is about to be touched.
  "rename 2 restore.json.new$",
  // The former cluster goes aside, then what is in the tablespace comes, and the data directory.
  "rename 1 /data$",
  "rename 1 /PG_18_[0-9]+$",
  "rename 1 -data/0$",
  // The last of all.
  "rename 1 -data/pg_control$",
])("killed at the step '%s' the former cluster is whole, and none is there that starts", async (step) => {
  expect(run(step)).toMatchObject({ signal: "SIGKILL" });
  expect(await findPrecious()).toHaveLength(1);
  await expectNoCluster(step);
  const { removed } = await settle();
  expect(removed.at(-1)).toContain("the staging folder ");
  await expectFormer(step);
});

test("killed while its server recovers, and again while that is taken back, the former cluster comes back", async () => {
  const { dataDirectory } = command;
  const paused = create(RestorePhysicalCommandSchema, { ...command, target: pausing });
  // It would end recovery by itself, and be left to who uses it.
  expect(run("replaying", paused)).toMatchObject({ signal: "SIGKILL" });
  expect(await readPidOf(dataDirectory)).toBeDefined();
  expect(await findPrecious()).toEqual([expect.stringContaining("data.before-")]);
  const settling = spawnSync(process.execPath, [program, "rename 1 /data.before-[^/]+$", "settle"], {
    encoding: "utf8",
    input: toJsonString(RestorePhysicalCommandSchema, command),
  });
  expect(settling).toMatchObject({ signal: "SIGKILL" });
  expect(await readPidOf(dataDirectory)).toBeUndefined();
  expect(await findPrecious()).toEqual([expect.stringContaining("data.before-")]);
  await settle();
  await expectFormer("settling");
});

test("killed while its server recovers, what was unpacked is kept where that is wanted, until another restore begins there", async () => {
  const wanted = create(RestorePhysicalCommandSchema, { ...command, target: pausing, keepFailed: true });
  expect(run("replaying", wanted)).toMatchObject({ signal: "SIGKILL" });
  const settled = await settle();
  expect(settled).toEqual({ outcome: undefined, removed: [], left: [expect.stringContaining("goes on with it")] });
  expect(await readPidOf(command.dataDirectory)).toBeUndefined();
  expect(await readdir(command.dataDirectory)).toEqual(["precious"]);
  expect(await settle()).toEqual(settled);
  expect(run("unpacking")).toMatchObject({ signal: "SIGKILL" });
  await settle();
  await expectFormer("another");
});

test("the same again begins clean and works; what has recovered by then, and may be used, is never taken away", async () => {
  expect(run("rename 1 -data/pg_control$")).toMatchObject({ signal: "SIGKILL" });
  const restored = run("restored", chained);
  expect(restored).toMatchObject({ signal: "SIGKILL" });
  expect(await settle(restored.stdout.trim())).toMatchObject({ outcome: { started: true } });
  await lab.stop(command);
  const { keptAs } = fromJsonString(RestorePhysicalResultSchema, restored.stdout);
  expect(await readFile(join(keptAs, "precious"), "utf8")).toBe("yes");
  expect(await traces()).toEqual(["data", basename(keptAs), "space"]);

  await rm(join(lab.folder, "space"), { recursive: true });
  expect(run("restored")).toMatchObject({ signal: "SIGKILL" });
  const refused = run("none");
  expect(refused.status).not.toBe(0);
  expect(refused.stderr).toContain(`a server runs in ${command.dataDirectory}`);
  expect(await lab.sql(command, "select (select count(*) from t), count(*) from moved")).toBe("1000|1000");
  await lab.stop(command);
});

test("what has recovered before its result was noted is left to who may use it, and named", async () => {
  for (const name of ["data", "space"]) await rm(join(lab.folder, name), { recursive: true });
  // Before it is written down that all is done.
  expect(run("rename 4 restore.json.new$")).toMatchObject({ signal: "SIGKILL" });
  const sql = (text: string) => lab.sql(command, text);
  await sql("create table used as select 1 as id");
  const hba = join(command.dataDirectory, "pg_hba.conf");
  // Its end is held against what the plan had promised.
  const marker = join(lab.folder, ".coppice-restore-op_restore-data", "restore.json");
  const noted = await readFile(marker, "utf8");
  expect(noted).toContain('"expectedEnd":""');
  await writeFile(marker, noted.replace('"expectedEnd":""', '"expectedEnd":"F/0"'));
  const { outcome, left } = await settle();
  expect(outcome).toBeUndefined();
  expect(left).toEqual([expect.stringContaining("came to the end of recovery after the restore was cut off")]);
  expect(left[0]).toMatch(
    /Its recovery ended at 0\/[0-9A-F]+ \(no .*\), before F\/0, .*: it is not what was asked for/,
  );
  expect(await sql("select count(*) from used")).toBe("1");
  expect(await readFile(hba, "utf8")).not.toContain("coppice_restore");
  expect((await readdir(command.dataDirectory)).filter((name) => name.startsWith("."))).toEqual([]);
  expect((await readdir(lab.folder)).filter((name) => name.startsWith("."))).toEqual([]);
  await lab.stop(command);
});

test("without a server to start, what came into its place whole is an outcome, though the answer was lost", async () => {
  for (const name of ["data", "space"]) await rm(join(lab.folder, name), { recursive: true });
  const placed = create(RestorePhysicalCommandSchema, { ...command, start: false });
  expect(run("restored", placed)).toMatchObject({ signal: "SIGKILL" });
  const { outcome, removed, left } = await settle();
  expect(outcome).toMatchObject({ dataDirectory: command.dataDirectory, started: false });
  expect(outcome?.files).toBeGreaterThan(100);
  expect([removed, left]).toEqual([[], []]);
  expect(await readdir(join(command.dataDirectory, "global"))).toContain("pg_control");
});
