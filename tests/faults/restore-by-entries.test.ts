// Where the data directory is a file system of its own or named by a link, its entries come one by one. When the restore
// fails or is killed they all go again, with what its server has made and written anew, and nothing else does.
import { spawnSync } from "node:child_process";
import { chown, mkdir, readdir, rm, statfs, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { toJsonString } from "@bufbuild/protobuf";
import {
  type RestorePhysicalCommand,
  RestorePhysicalCommandSchema,
} from "@coppice/proto/gen/coppice/agent/v1/restore_physical";
import type { BackupAddress } from "@coppice/proto/gen/coppice/agent/v1/repository_target";
import { CheckStatus } from "@coppice/proto/gen/coppice/common/v1/check";
import { RecoveryAction } from "@coppice/proto/gen/coppice/common/v1/recovery_target";
import { afterAll, beforeAll, expect, test } from "vitest";
import { planPhysical } from "../../agent/src/physical/restore/plan.ts";
import { settlePhysical } from "../../agent/src/physical/restore/settle.ts";
import { openPhysicalLab } from "../support/physical/physical-lab.ts";
import { openRestoreLab, type RestoreLab } from "../support/physical/restore-lab.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";
import { runProgram } from "../support/run-program.ts";

const program = new URL("../support/physical/restore-and-die.ts", import.meta.url).pathname;
const stack = new AsyncDisposableStack();
let server: PostgresServer;
let lab: RestoreLab;
let backup: BackupAddress;
let other: BackupAddress;

beforeAll(async () => {
  server = stack.use(await openPostgresServer({ major: 17 }));
  const backups = stack.use(await openPhysicalLab(server));
  lab = stack.use(await openRestoreLab(server, backups.repository));
  await server.sql("postgres", "create table t as select generate_series(1, 1000) as id");
  const [first, second] = [backups.command(), backups.command()];
  for (const command of [first, second]) await backups.take(command);
  [backup, other] = [first.backup, second.backup];
});
afterAll(() => stack.disposeAsync());

async function ownFolder(name: string): Promise<string> {
  const folder = join(lab.folder, name);
  await mkdir(folder);
  await chown(folder, server.owner.uid, server.owner.gid);
  return folder;
}
async function mount(...args: string[]): Promise<void> {
  expect(await runProgram("mount", args, { env: process.env })).toMatchObject({ code: 0, stderr: "" });
}
async function mountDisk(name: string): Promise<void> {
  const folder = await ownFolder(name);
  await mount("-t", "tmpfs", "-o", "size=400m", "none", folder);
  stack.defer(async () => void (await runProgram("umount", ["--lazy", folder], { env: process.env })));
  await chown(folder, server.owner.uid, server.owner.gid);
}
function run(step: string, restore: RestorePhysicalCommand, work = "restore") {
  const input = toJsonString(RestorePhysicalCommandSchema, restore);
  return spawnSync(process.execPath, [program, step, work], { encoding: "utf8", input, timeout: 110_000 });
}
const settle = (command: RestorePhysicalCommand) =>
  settlePhysical({ command, operationId: "op_restore", noted: undefined, signal: AbortSignal.timeout(60_000) });
const pausing = { point: { case: "immediate", value: true }, action: RecoveryAction.PAUSE } as const;

async function expectRestored(command: RestorePhysicalCommand, restoreCommand?: string): Promise<void> {
  await lab.restore(command, { restoreCommand });
  expect(await lab.sql(command, "select count(*) from t")).toBe("1000");
  await lab.stop(command);
  expect((await readdir(command.dataDirectory)).filter((name) => name.startsWith("."))).toEqual([]);
}

test("into a link, a restore that does not come to its target leaves what others have put there, and names it", async () => {
  const real = await ownFolder("linked-real");
  const nowhere = { point: { case: "xid", value: 99999 } } as const;
  const command = await lab.command("linked", [backup], { target: nowhere });
  await symlink(real, command.dataDirectory);
  const theirs = join(real, "theirs");
  const failed = lab.restore(command, {
    restoreCommand: "exit 1",
    onProgress: ({ phase }) => void (phase === "recovering" && spawnSync("touch", [theirs])),
  });
  await expect(failed).rejects.toMatchObject({ reason: "RECOVERY_TARGET_UNREACHABLE" });
  expect(await readdir(real)).toEqual(["theirs"]);
  expect(lab.leavings).toEqual([expect.stringContaining(`theirs in ${command.dataDirectory}`)]);
  await rm(theirs);
  await expectRestored(await lab.command("linked", [backup]));
});

test("killed on a disk of its own while its server recovers, and again while that is taken back, nothing of it stays", async () => {
  await mountDisk("mounted");
  const command = await lab.command("mounted", [backup], { target: pausing });
  expect(run("replaying", command)).toMatchObject({ signal: "SIGKILL" });
  expect(await readdir(command.dataDirectory)).toContain("backup_label.old");
  expect(run("rm 1 /mounted/base$", command, "settle")).toMatchObject({ signal: "SIGKILL" });
  expect(await readdir(join(command.dataDirectory, "global"))).not.toContain("pg_control");
  await writeFile(join(command.dataDirectory, "pg_hba.conf.coppice-new"), "");
  const { removed, left } = await settle(command);
  expect([removed.length, left]).toEqual([2, []]);
  expect(await readdir(command.dataDirectory)).toEqual([]);
  await expectRestored(command);
});

test("what is kept on a disk of its own is the server's user's, and the same restore goes on with it", async () => {
  await mountDisk("kept-disk");
  const command = await lab.command("kept-disk", [backup], { keepFailed: true });
  const failed = lab.restore(command, { restoreCommand: "case %f in 0000*) exit 130;; esac; exit 1" });
  await expect(failed).rejects.toMatchObject({ reason: "SERVER_NOT_STARTED" });
  expect(await readdir(command.dataDirectory)).toEqual([".coppice-restore-op_restore"]);
  // What is removed before another restore is room for it.
  const { blocks, bfree, bsize } = await statfs(command.dataDirectory);
  await mount("-o", `remount,size=${(blocks - bfree) * bsize + (4 << 20)}`, command.dataDirectory);
  const { items } = await lab.with(await lab.command("kept-disk", [other]), planPhysical);
  expect(items.find(({ name }) => name === "space")).toMatchObject({ status: CheckStatus.OK });
  await mount("-o", "remount,size=400m", command.dataDirectory);
  await expectRestored(command, "exit 1");
});
