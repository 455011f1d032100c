// Physical backups and restores as the control plane sees them, the agent's part played by the test.
import { BackupKind } from "@coppice/proto/gen/coppice/common/v1/backup_kind";
import { IncrementalMethod } from "@coppice/proto/gen/coppice/common/v1/base_backup_options";
import { CheckStatus } from "@coppice/proto/gen/coppice/common/v1/check";
import { RecoveryAction } from "@coppice/proto/gen/coppice/common/v1/recovery_target";
import { BackupService, CopyState } from "@coppice/proto/gen/coppice/control/v1/backup";
import { ClusterService } from "@coppice/proto/gen/coppice/control/v1/cluster";
import { OperationState } from "@coppice/proto/gen/coppice/control/v1/operation";
import { RestoreService } from "@coppice/proto/gen/coppice/control/v1/restore";
import { failureFromConnectError } from "@coppice/proto/kit/connect-failure";
import { Failure, failureToDetail } from "@coppice/proto/kit/failure";
import { afterAll, beforeAll, describe, test } from "vitest";
import { type ControlPlaneLab, openControlPlaneLab } from "../support/control-plane-lab.ts";
import { openOperationLab } from "../support/operation-lab.ts";
import {
  checkPlayed,
  makePhysical,
  physicalOf,
  physicalResult,
  systemIdentifier,
} from "../support/physical/played-backups.ts";

const heartbeatMs = 1000;
const { SUCCEEDED, RUNNING, FAILED } = OperationState;
let lab: ControlPlaneLab;

beforeAll(async () => {
  lab = await openControlPlaneLab({ heartbeatMs });
});
afterAll(async () => {
  await lab[Symbol.asyncDispose]();
});

async function refusal(work: Promise<unknown>) {
  const failure = await work.then(
    () => undefined,
    (error: unknown) => failureFromConnectError(error),
  );
  return { reason: failure?.reason, message: failure?.message, hint: failure?.hint };
}

const embedded = { kind: BackupKind.FULL, physical: { walEmbedded: true } };

describe.concurrent("a physical backup", () => {
  test("is refused before a check, and when it is to leave its WAL to an archive that is not there", async ({
    expect,
  }) => {
    const db = await openOperationLab(lab, "unchecked", heartbeatMs);
    using agent = await db.connect();
    const create = (request: object) =>
      refusal(lab.client(BackupService).createBackup({ cluster: "unchecked", repository: "unchecked", ...request }));
    expect((await create(embedded)).reason).toBe("CLUSTER_NOT_CHECKED");
    const { id: check } = await lab.client(ClusterService).checkCluster({ cluster: "unchecked" });
    const unseen = failureToDetail(new Failure("CLUSTER_UNREACHABLE", "no server listens there"));
    agent.answer(await agent.next("command"), { failure: unseen });
    await db.until(check, FAILED);
    expect(await create(embedded)).toMatchObject({
      reason: "CLUSTER_NOT_CHECKED",
      message: "cluster unchecked was never seen, its last check has failed: no server listens there",
    });
    await checkPlayed(lab, db, agent);
    expect(await create({ kind: BackupKind.FULL, physical: { walArchived: true } })).toMatchObject({
      reason: "WAL_NOT_ARCHIVED",
      hint: expect.stringMatching(/coppice wal setup unchecked; .*--wal embedded/) as string,
    });
    const byWal = { kind: BackupKind.INCREMENTAL, physical: { method: IncrementalMethod.WAL } };
    expect(await create(byWal)).toMatchObject({
      reason: "WAL_NOT_ARCHIVED",
      hint: expect.stringMatching(/coppice wal setup unchecked; .*--kind full/) as string,
    });
    expect((await create({ ...byWal, kind: BackupKind.FULL })).reason).toBe("INVALID_FIELD");
    const both = { walArchived: true, walEmbedded: true };
    expect((await create({ kind: BackupKind.FULL, physical: both })).reason).toBe("INVALID_FIELD");
    expect((await create({ ...embedded, dump: { jobs: 2 } })).reason).toBe("INVALID_FIELD");
    expect((await create({ kind: BackupKind.DUMP, physical: {} })).reason).toBe("INVALID_FIELD");
    const nobody = `bkp_${"0".repeat(26)}`;
    const incremental = { kind: BackupKind.INCREMENTAL, physical: { walEmbedded: true, parent: nobody } };
    expect((await create(incremental)).reason).toBe("BACKUP_NOT_FOUND");
  });

  test("is listed with its place in the WAL, and counts apart from dumps", async ({ expect }) => {
    const db = await openOperationLab(lab, "listed", heartbeatMs);
    using agent = await db.connect();
    await checkPlayed(lab, db, agent);
    const backup = await makePhysical(lab, db, agent);
    expect(await lab.client(BackupService).getBackup({ backup })).toMatchObject({
      kind: BackupKind.FULL,
      complete: true,
      databaseBytes: 1000n,
      databases: [],
      codec: "zstd",
      physical: { systemIdentifier, timeline: 1, startLsn: "0/2000028", stopLsn: "0/2000120", walEmbedded: true },
    });
    const cluster = await lab.client(ClusterService).getCluster({ cluster: "listed" });
    expect([cluster.lastGoodDump?.backup, cluster.lastGoodPhysical?.backup]).toEqual([undefined, backup]);
    expect(cluster.recoveryWindow).toBeUndefined();
    expect((await refusal(lab.client(BackupService).deleteBackup({ backup }))).reason).toBe("LAST_GOOD_BACKUP");
  });

  test("is verified with all that it builds on, and damage is that of the backup that it lies in", async ({
    expect,
  }) => {
    const db = await openOperationLab(lab, "chain", heartbeatMs);
    using agent = await db.connect();
    await checkPlayed(lab, db, agent);
    const full = await makePhysical(lab, db, agent);
    const middle = await makePhysical(lab, db, agent, {
      kind: BackupKind.INCREMENTAL,
      physical: { parentBackupId: full },
    });
    const newest = await makePhysical(lab, db, agent, {
      kind: BackupKind.INCREMENTAL,
      physical: { parentBackupId: middle },
    });
    const verify = async (problems: { backupId: string; message: string }[]) => {
      const { id } = await lab.client(BackupService).verifyBackup({ backup: newest });
      const command = await agent.next("command");
      if (command.spec.case !== "verifyBackup") throw new Error("it is no verification");
      expect(command.spec.value.parents.map(({ backupId }) => backupId)).toEqual([full, middle]);
      const value = { objects: 9, bytes: 90n, problems, parents: [full, middle] };
      agent.answer(command, { result: { case: "verifyBackup", value } });
      return await db.until(id, problems.length > 0 ? FAILED : SUCCEEDED);
    };
    const copies = async () => {
      const { backups } = await lab.client(BackupService).listBackups({ cluster: "chain" });
      return [full, middle, newest].flatMap((id) => backups.find((one) => one.id === id)?.copies ?? []);
    };
    const states = async () => (await copies()).map(({ state }) => state);
    const verified = async () => (await copies()).map(({ verifyTime }) => verifyTime !== undefined);
    const { STORED, DAMAGED } = CopyState;
    const damaged = await verify([{ backupId: middle, message: "a byte is another one" }]);
    expect(damaged.result.value).toMatchObject({ problems: [{ backup: middle }], parents: [full, middle] });
    expect(await states()).toEqual([STORED, DAMAGED, STORED]);
    // Nothing is verified by one that has failed, and what builds on damage is not good.
    expect(await verified()).toEqual([false, false, false]);
    const broken = `${middle}, which it builds on, is damaged`;
    expect((await copies()).map(({ chainProblem }) => chainProblem)).toEqual(["", "", broken]);
    expect((await lab.client(BackupService).getBackup({ backup: newest })).copies[0]?.chainProblem).toBe(broken);
    await verify([]);
    expect(await states()).toEqual([STORED, STORED, STORED]);
    expect(await verified()).toEqual([true, true, true]);
    expect((await copies()).map(({ chainProblem }) => chainProblem)).toEqual(["", "", ""]);
  });

  test("cannot be deleted while incremental ones build on it", async ({ expect }) => {
    const db = await openOperationLab(lab, "chained", heartbeatMs);
    using agent = await db.connect();
    await checkPlayed(lab, db, agent);
    const full = await makePhysical(lab, db, agent);
    const incremental = await makePhysical(lab, db, agent, {
      kind: BackupKind.INCREMENTAL,
      physical: { startLsn: "0/3000028", stopLsn: "0/3000120" },
    });
    expect((await lab.client(BackupService).getBackup({ backup: incremental })).parent).toBe(full);
    expect(await refusal(lab.client(BackupService).deleteBackup({ backup: full, allowLast: true }))).toMatchObject({
      reason: "BACKUP_HAS_CHILDREN",
      hint: `delete them first: coppice backup delete ${incremental}`,
    });
    const cluster = await lab.client(ClusterService).getCluster({ cluster: "chained" });
    expect(cluster.lastGoodPhysical?.backup).toBe(incremental);
    const request = { backup: incremental, allowLast: true };
    const { id } = await lab.client(BackupService).deleteBackup(request);
    const command = await agent.next("command");
    if (command.spec.case !== "deleteBackup") throw new Error("it is no deletion");
    expect(command.spec.value.keys).toEqual([
      "data/base.tar.zst.0000",
      "data/16400.tar.zst.0000",
      "data/backup_manifest.zst.0000",
      "data/wal.tar.zst.0000",
      "RECOVER.txt",
    ]);
    agent.answer(command, { result: { case: "deleteBackup", value: { objects: 6 } } });
    await db.until(id, SUCCEEDED);
    expect((await lab.client(BackupService).deleteBackup({ backup: full, allowLast: true })).id).not.toBe("");
  });

  test("has succeeded when a look finds it whole after its agent was lost", async ({ expect }) => {
    const db = await openOperationLab(lab, "lost", heartbeatMs);
    using first = await db.connect();
    await checkPlayed(lab, db, first);
    const { id } = await lab.client(BackupService).createBackup({ cluster: "lost", repository: "lost", ...embedded });
    first.accept(await first.next("command"));
    await db.until(id, RUNNING);
    first.cut();
    using second = await db.connect();
    const settle = await second.next("command");
    expect(settle.secrets.map(({ value }) => value)).toEqual(["password of lost"]);
    const outcome = { case: "backupPhysical" as const, value: physicalResult(physicalOf(settle)) };
    second.answer(settle, { result: { case: "settle", value: { outcome } } });
    expect((await db.until(id, SUCCEEDED)).result.case).toBe("createdPhysicalBackup");
  });
});

describe.concurrent("a restore of a data directory", () => {
  test("takes the newest backup, to its end where no WAL is archived", async ({ expect }) => {
    const db = await openOperationLab(lab, "restored", heartbeatMs);
    using agent = await db.connect();
    await checkPlayed(lab, db, agent);
    await makePhysical(lab, db, agent);
    const backup = await makePhysical(lab, db, agent, { physical: { startLsn: "0/4000028", stopLsn: "0/4000120" } });
    const restore = {
      cluster: "restored",
      physical: { host: "restored", dataDirectory: "/srv/back/", start: true, tablespaces: { "/srv/fast": "/srv/f2" } },
    };
    const planned = await lab.client(RestoreService).planRestore({ restore });
    const question = await agent.next("command");
    if (question.spec.case !== "planPhysical") throw new Error("it is no plan");
    const item = { name: "directory", status: CheckStatus.OK, message: "it is empty" };
    agent.answer(question, { result: { case: "planPhysical", value: { items: [item], neededBytes: 9n } } });
    const plan = (await db.until(planned.id, SUCCEEDED)).result;
    expect(plan.value).toMatchObject({
      chain: [backup],
      startLsn: "0/4000028",
      endLsn: "0/4000120",
      neededBytes: 9n,
      items: [{ name: "recovery" }, { name: "directory" }],
    });
    const { id } = await lab.client(RestoreService).createRestore({ restore });
    const command = await agent.next("command");
    if (command.spec.case !== "restorePhysical") throw new Error("it is no restore");
    expect(command.spec.value).toMatchObject({
      chain: [{ backupId: backup }],
      target: { point: { case: "immediate" }, timeline: 1, action: RecoveryAction.PROMOTE },
      dataDirectory: "/srv/back",
      tablespaces: [{ oid: 16_400, location: "/srv/f2" }],
      expectedEndLsn: "0/4000120",
      start: true,
    });
    expect(command.spec.value).toEqual(question.spec.value.restore);
    // Nobody restores into the same folder at the same time, nor deletes what is read.
    expect((await refusal(lab.client(RestoreService).createRestore({ restore }))).reason).toBe("OPERATION_CONFLICT");
    expect((await refusal(lab.client(BackupService).deleteBackup({ backup }))).reason).toBe("BACKUP_IN_USE");
    const value = { dataDirectory: "/srv/back", files: 900, started: true, timeline: 2, endLsn: "0/4000120" };
    agent.answer(command, { result: { case: "restorePhysical", value } });
    const done = await db.until(id, SUCCEEDED);
    expect(done.result).toMatchObject({ case: "restoredDataDirectory", value: { timeline: 2, started: true } });
  });

  test("is refused with what can be reached instead", async ({ expect }) => {
    const db = await openOperationLab(lab, "refused", heartbeatMs);
    using agent = await db.connect();
    await checkPlayed(lab, db, agent);
    const attempt = (restore: object, physical: object = {}) =>
      refusal(
        lab.client(RestoreService).createRestore({
          restore: {
            cluster: "refused",
            physical: { host: "refused", dataDirectory: "/srv/x", ...physical },
            ...restore,
          },
        }),
      );
    expect((await attempt({})).reason).toBe("BACKUP_NOT_FOUND");
    const backup = await makePhysical(lab, db, agent);
    const noDump = { cluster: "refused", database: "orders", targetDatabase: "copy" };
    expect(await refusal(lab.client(RestoreService).createRestore({ restore: noDump }))).toMatchObject({
      reason: "BACKUP_NOT_FOUND",
      hint: expect.stringContaining("coppice restore create refused --database NAME --as COPY --latest") as string,
    });
    const dump = await db.makeBackup(agent);
    expect((await attempt({ backup: dump })).reason).toBe("INVALID_FIELD");
    const point = { case: "lsn" as const, value: "0/9000000" };
    expect(await attempt({}, { target: { point } })).toMatchObject({
      reason: "RECOVERY_TARGET_UNREACHABLE",
      hint: expect.stringContaining(`the end of backup ${backup}`) as string,
    });
    expect((await attempt({ database: "orders" })).reason).toBe("INVALID_FIELD");
    expect((await attempt({}, { tablespaces: { "/nowhere": "/srv/y" } })).reason).toBe("INVALID_FIELD");
    expect((await attempt({}, { dataDirectory: "/srv/../etc" })).reason).toBe("INVALID_FIELD");
    await lab.enrol("elsewhere");
    expect((await attempt({}, { host: "elsewhere" })).reason).toBe("REPOSITORY_WRONG_HOST");
    const single = { cluster: "refused", backup, database: "orders", targetDatabase: "copy" };
    expect((await refusal(lab.client(RestoreService).createRestore({ restore: single }))).reason).toBe("INVALID_FIELD");
  });

  test("is not tried again by itself, and may have left something", async ({ expect }) => {
    const db = await openOperationLab(lab, "once", heartbeatMs);
    using first = await db.connect();
    await checkPlayed(lab, db, first);
    await makePhysical(lab, db, first);
    const restore = { cluster: "once", physical: { host: "once", dataDirectory: "/srv/back" } };
    const { id } = await lab.client(RestoreService).createRestore({ restore });
    first.accept(await first.next("command"));
    await db.until(id, RUNNING);
    first.cut();
    using second = await db.connect();
    const settle = await second.next("command");
    expect(settle.spec.case === "settle" && settle.spec.value.lost.case).toBe("restorePhysical");
    const left = "/srv/back: its server came to the end of recovery, and is left as it is";
    second.answer(settle, {
      leavings: [left],
      result: { case: "settle", value: { removed: ["/srv/.back.coppice"] } },
    });
    const failed = await db.until(id, FAILED);
    expect(failed.failure?.reason).toBe("AGENT_LOST");
    // Not that nothing of it is left.
    expect(failed.failure?.message).toContain(`this is left: ${left}`);
  });
});
