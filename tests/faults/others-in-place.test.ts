// While a restore works, or between its death and its settling, somebody else comes to its place. What is not the
// restore's is neither stopped nor removed, whatever its name.
import { spawnSync } from "node:child_process";
import { appendFile, chown, cp, mkdir, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { create, toJsonString } from "@bufbuild/protobuf";
import {
  type RestorePhysicalCommand,
  RestorePhysicalCommandSchema,
  TablespacePlaceSchema,
} from "@coppice/proto/gen/coppice/agent/v1/restore_physical";
import type { BackupAddress } from "@coppice/proto/gen/coppice/agent/v1/repository_target";
import { afterAll, beforeAll, expect, test } from "vitest";
import { planPhysical } from "../../agent/src/physical/restore/plan.ts";
import { settlePhysical } from "../../agent/src/physical/restore/settle.ts";
import { openPhysicalLab } from "../support/physical/physical-lab.ts";
import { openRestoreLab, type RestoreLab } from "../support/physical/restore-lab.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";

const program = new URL("../support/physical/restore-and-die.ts", import.meta.url).pathname;
const stack = new AsyncDisposableStack();
let server: PostgresServer;
let lab: RestoreLab;
let backup: BackupAddress;
let oid: number;

beforeAll(async () => {
  server = stack.use(await openPostgresServer({ major: 17 }));
  const backups = stack.use(await openPhysicalLab(server));
  lab = stack.use(await openRestoreLab(server, backups.repository));
  await server.sql("postgres", `create tablespace extra location '${await ownFolder("source-space")}'`);
  await server.sql("postgres", "create table moved tablespace extra as select generate_series(1, 1000) as id");
  oid = Number(await server.sql("postgres", "select oid from pg_tablespace where spcname = 'extra'"));
  // What a restore of the source itself, years ago, has left in it.
  await writeFile(join(server.dataDir, "restore.log"), 'LOG:  recovery stopping at restore point "old"\n');
  await chown(join(server.dataDir, "restore.log"), server.owner.uid, server.owner.gid);
  const taken = backups.command();
  await backups.take(taken);
  backup = taken.backup;
});
afterAll(() => stack.disposeAsync());

async function ownFolder(name: string): Promise<string> {
  const folder = join(lab.folder, name);
  await mkdir(folder);
  await chown(folder, server.owner.uid, server.owner.gid);
  return folder;
}
const restoreTo = async (name: string, changes: { replace?: boolean; start?: boolean } = {}) =>
  create(RestorePhysicalCommandSchema, {
    ...(await lab.command(name, [backup], { start: false, ...changes })),
    tablespaces: [create(TablespacePlaceSchema, { oid, location: join(lab.folder, `${name}-space`) })],
  });
function run(step: string, restore: RestorePhysicalCommand) {
  const input = toJsonString(RestorePhysicalCommandSchema, restore);
  return spawnSync(process.execPath, [program, step], { encoding: "utf8", input, timeout: 110_000 });
}
const settle = (command: RestorePhysicalCommand) =>
  settlePhysical({ command, operationId: "op_restore", noted: undefined, signal: AbortSignal.timeout(60_000) });

test("a cluster that came into the directory while all was unpacked stays, and the restore is refused", async () => {
  const command = await restoreTo("taken");
  const fill = { phase: "syncing", done: false };
  const refused = lab.restore(command, {
    onProgress({ phase }) {
      if (phase !== fill.phase || fill.done) return;
      fill.done = true;
      const made = spawnSync("sh", [
        "-c",
        `mkdir -p ${command.dataDirectory}/base && echo theirs > ${command.dataDirectory}/base/1`,
      ]);
      expect(made.status).toBe(0);
    },
  });
  await expect(refused).rejects.toMatchObject({ reason: "DIRECTORY_NOT_EMPTY" });
  expect(await readFile(join(command.dataDirectory, "base", "1"), "utf8")).toBe("theirs\n");
  expect(await readdir(lab.folder)).not.toContain("taken-space");
});

test("a server that came up again in the directory that is to be replaced is not moved away under it", async () => {
  const command = await restoreTo("woken", { replace: true });
  await cp(server.dataDir, command.dataDirectory, {
    recursive: true,
    filter: (path) => !path.endsWith("postmaster.pid"),
  });
  spawnSync("chown", ["-R", `${server.owner.uid}:${server.owner.gid}`, command.dataDirectory]);
  const refused = lab.restore(command, {
    onProgress({ phase }) {
      if (phase === "syncing") spawnSync("sh", ["-c", `echo ${process.pid} > ${command.dataDirectory}/postmaster.pid`]);
    },
  });
  await expect(refused).rejects.toMatchObject({ reason: "SERVER_RUNNING" });
  expect(await readdir(command.dataDirectory)).toContain("PG_VERSION");
  expect((await readdir(lab.folder)).filter((name) => name.startsWith("woken"))).toEqual(["woken"]);
});

test("what somebody has put into the place of a killed restore stays when that is settled", async () => {
  const command = await restoreTo("settled", { replace: true });
  const former = await ownFolder("settled");
  await writeFile(join(former, "precious"), "yes");
  expect(run("rename 1 settled/0$", command)).toMatchObject({ signal: "SIGKILL" });
  await ownFolder("settled");
  await writeFile(join(former, "PG_VERSION"), "theirs");
  const { outcome, left } = await settle(command);
  expect(outcome).toBeUndefined();
  expect(left).toEqual([expect.stringContaining(`what was in ${former} before, as ${former}.before-`)]);
  expect(await readdir(former)).toEqual(["PG_VERSION"]);
  const kept = (await readdir(lab.folder)).find((name) => name.startsWith("settled.before-")) ?? "";
  expect(await readdir(join(lab.folder, kept))).toEqual(["precious"]);
  // It was made by the restore, and is empty again.
  expect(await readdir(lab.folder)).not.toContain("settled-space");
});

test("what a killed restore has left is taken back by the next one into that place, and what was there before comes back", async () => {
  const command = await restoreTo("cut", { replace: true });
  const former = await ownFolder("cut");
  await writeFile(join(former, "precious"), "yes");
  expect(run("rename 1 -cut/pg_control$", command)).toMatchObject({ signal: "SIGKILL" });
  const changes = { operationId: "op_other" };
  const { items } = await lab.with({ ...command, replace: false }, planPhysical, changes);
  expect(items.find(({ name }) => name === "remains")?.message).toContain("op_restore");
  const refused = lab.restore({ ...command, replace: false }, changes);
  await expect(refused).rejects.toMatchObject({ message: expect.stringContaining("it holds precious") as unknown });
  expect(run("rename 1 -cut/pg_control$", command)).toMatchObject({ signal: "SIGKILL" });
  // One whose server is there still is for people to stop.
  await writeFile(join(former, "postmaster.pid"), `${process.pid}\n`);
  await expect(lab.restore(command, changes)).rejects.toMatchObject({ reason: "SERVER_RUNNING" });
  await rm(join(former, "postmaster.pid"));
  const { keptAs } = await lab.restore(command, changes);
  expect(await readdir(keptAs)).toEqual(["precious"]);
  expect((await readdir(lab.folder)).filter((name) => /^cut\.|-cut$/.test(name))).toEqual([basename(keptAs)]);
  expect((await settle(command)).removed).toEqual([]);
  expect(await readdir(join(former, "global"))).toContain("pg_control");
});

test("a process that got the number of a dead server is never signalled, and its cluster lives on", async () => {
  const command = await restoreTo("reused", { start: true });
  expect(run("rename 1 -reused/pg_control$", command)).toMatchObject({ signal: "SIGKILL" });
  // With pg_control it is what a power cut leaves of a server that recovered.
  const control = join(lab.folder, ".coppice-restore-op_restore-reused", "pg_control");
  await cp(control, join(command.dataDirectory, "global", "pg_control"));
  const pid = await server.sql("postgres", "select pg_backend_pid() from pg_sleep(0)");
  const started = await server.sql("postgres", "select pg_postmaster_start_time()");
  const [postmaster] = (await readFile(join(server.dataDir, "postmaster.pid"), "utf8")).split("\n");
  expect(pid).not.toBe(postmaster);
  await writeFile(join(command.dataDirectory, "postmaster.pid"), `${postmaster}\n${command.dataDirectory}\n`);
  const { removed } = await settle(command);
  expect(removed).toEqual([`what was restored into ${command.dataDirectory}`, expect.stringContaining("the staging")]);
  expect(await server.sql("postgres", "select pg_postmaster_start_time()")).toBe(started);
});

test("a directory whose postmaster.pid names nobody who is seen here is not replaced", async () => {
  const command = await restoreTo("elsewhere", { replace: true });
  await appendFile(join(await ownFolder("elsewhere"), "postmaster.pid"), "1\n");
  const refused = lab.restore(command);
  await expect(refused).rejects.toMatchObject({
    reason: "SERVER_RUNNING",
    message: expect.stringContaining("container") as unknown,
  });
});

test("a second restore into the same directory is refused while the first works, which does not notice", async () => {
  const command = await restoreTo("twice");
  await symlink(lab.folder, join(lab.folder, "spelled"));
  const otherwise = { ...command, dataDirectory: join(lab.folder, "spelled", "twice") };
  const seen: string[] = [];
  await lab.restore(command, {
    onProgress({ phase }) {
      if (phase !== "comparing" || seen.length > 0) return;
      for (const again of [command, otherwise]) seen.push(run("none", again).stderr);
    },
  });
  expect(seen).toEqual([expect.stringContaining("is at work"), expect.stringContaining("is at work")]);
  const names = await readdir(command.dataDirectory);
  expect(names).toContain("PG_VERSION");
  expect(names.filter((name) => name.startsWith(".coppice"))).toEqual([]);
  expect(names).not.toContain("restore.log");
});

test("a directory that is named by a link gets its entries one by one, and killed among them none of them stays", async () => {
  const command = await restoreTo("linked");
  const real = await ownFolder("linked-real");
  await symlink(real, command.dataDirectory);
  expect(run("rename 9 -linked/0/[^/]+$", command)).toMatchObject({ signal: "SIGKILL" });
  await writeFile(join(real, "theirs"), "");
  await settle(command);
  expect(await readdir(real)).toEqual(["theirs"]);
  await rm(join(real, "theirs"));
  await lab.restore(command);
  expect((await readdir(real)).filter((name) => name.startsWith("."))).toEqual([]);
  expect(await readdir(join(real, "global"))).toContain("pg_control");
});
