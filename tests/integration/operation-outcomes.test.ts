// How operations end, at the edge that agents see: the protocol.
import { CheckStatus } from "@coppice/proto/gen/coppice/common/v1/check";
import { BackupService, CopyState } from "@coppice/proto/gen/coppice/control/v1/backup";
import { ClusterService } from "@coppice/proto/gen/coppice/control/v1/cluster";
import { OperationService, OperationState } from "@coppice/proto/gen/coppice/control/v1/operation";
import { FindingService } from "@coppice/proto/gen/coppice/control/v1/finding";
import { RepositoryService } from "@coppice/proto/gen/coppice/control/v1/repository";
import { RestoreService } from "@coppice/proto/gen/coppice/control/v1/restore";
import { failureFromConnectError } from "@coppice/proto/kit/connect-failure";
import { eq } from "drizzle-orm";
import { afterAll, beforeAll, describe, test } from "vitest";
import { backup as backupTable } from "../../control-plane/src/catalog/schema/backup.ts";
import { type ControlPlaneLab, openControlPlaneLab } from "../support/control-plane-lab.ts";
import { dumpOf, dumpResult, openOperationLab } from "../support/operation-lab.ts";

const heartbeatMs = 1000;
const { QUEUED, RUNNING, SUCCEEDED, FAILED, CANCELLED } = OperationState;
let lab: ControlPlaneLab;

beforeAll(async () => {
  lab = await openControlPlaneLab({ heartbeatMs });
});
afterAll(async () => {
  await lab[Symbol.asyncDispose]();
});

const backups = () => lab.client(BackupService);
const operations = () => lab.client(OperationService);
const refusal = async (work: Promise<unknown>) => {
  const error: unknown = await work.then(
    () => "it was not refused",
    (caught: unknown) => caught,
  );
  return failureFromConnectError(error).reason;
};

describe.concurrent("an operation", () => {
  test("fails when its backup lacks a database, and the backup is listed as incomplete", async ({ expect }) => {
    const db = await openOperationLab(lab, "lacking", heartbeatMs);
    using agent = await db.connect();
    const id = await db.backUp();
    const command = await agent.next("command");
    agent.answer(command, { result: { case: "backupDump", value: dumpResult(dumpOf(command), { complete: false }) } });
    const failed = await db.until(id, FAILED);
    expect(failed.failure).toMatchObject({ reason: "BACKUP_INCOMPLETE", operation: id });
    expect(failed.result.value).toMatchObject({ complete: false });
    const { backups: listed } = await backups().listBackups({ cluster: "lacking" });
    expect(listed.map(({ complete }) => complete)).toEqual([false]);
    expect((await lab.client(ClusterService).getCluster({ cluster: "lacking" })).lastGoodDump).toBeUndefined();
  });

  test.for([
    ["empty", () => ({})],
    ["foreign", () => ({ result: { case: "verifyBackup" as const, value: { objects: 3 } } })],
    [
      "other-backup",
      (result: ReturnType<typeof dumpResult>) => ({
        result: {
          case: "backupDump" as const,
          value: { ...result, manifest: { ...result.manifest!, backupId: "bkp_01jd3kz9m8f7s6r5q4p3n2b1a0" } },
        },
      }),
    ],
    [
      "no-digest",
      (result: ReturnType<typeof dumpResult>) => ({
        result: { case: "backupDump" as const, value: { ...result, manifestSha256: "" } },
      }),
    ],
    [
      "not-storable",
      (result: ReturnType<typeof dumpResult>) => ({
        result: { case: "backupDump" as const, value: { ...result, recipe: "a NUL: \0" } },
      }),
    ],
    [
      "no-manifest",
      ({ manifestSha256 }: ReturnType<typeof dumpResult>) => ({
        result: { case: "backupDump" as const, value: { manifestSha256 } },
      }),
    ],
  ] as const)("fails and stores nothing when its agent's answer is %s", async ([name, change], { expect }) => {
    const db = await openOperationLab(lab, `answer-${name}`, heartbeatMs);
    using agent = await db.connect();
    const id = await db.backUp();
    const command = await agent.next("command");
    agent.answer(command, change(dumpResult(dumpOf(command))));
    expect((await db.until(id, FAILED)).failure?.reason).toBe("AGENT_ANSWER_INVALID");
    expect((await backups().listBackups({ cluster: db.name })).backups).toEqual([]);
  });

  test("that fails says since when the place that it names is away", async ({ expect }) => {
    const db = await openOperationLab(lab, "away", heartbeatMs);
    using agent = await db.connect();
    const id = await db.backUp();
    const failure = { reason: "REPOSITORY_UNREACHABLE", message: "/srv/away is not there" };
    agent.answer(await agent.next("command"), { failure });
    expect((await db.until(id, FAILED)).failure).toMatchObject(failure);
    const repository = await lab.client(RepositoryService).getRepository({ repository: "away" });
    expect(repository).toMatchObject({ reachable: false, problem: "/srv/away is not there" });
    const check = await lab.client(RepositoryService).checkRepository({ repository: "away" });
    const items = [{ name: "write", status: CheckStatus.OK, message: "can be written" }];
    agent.answer(await agent.next("command"), { result: { case: "checkRepository", value: { items } } });
    await db.until(check.id, SUCCEEDED);
    expect(await lab.client(RepositoryService).getRepository({ repository: "away" })).toMatchObject({
      reachable: true,
      problem: "",
    });
  });

  test("that verifies marks a copy as damaged, and as sound again", async ({ expect }) => {
    const db = await openOperationLab(lab, "verified", heartbeatMs);
    using agent = await db.connect();
    const backup = await db.makeBackup(agent);
    const copy = async () => (await backups().getBackup({ backup })).copies[0];
    const found = async () => {
      const { findings } = await lab.client(FindingService).listFindings({});
      return findings.filter(({ rule, subjectName }) => rule === "backup-damaged" && subjectName === "verified");
    };
    expect(await found()).toEqual([]);
    const damaged = await backups().verifyBackup({ backup });
    const problems = [{ key: "db/16384.dump.zst.0000", message: "differs", affects: "orders" }];
    agent.answer(await agent.next("command"), { result: { case: "verifyBackup", value: { objects: 3, problems } } });
    expect((await db.until(damaged.id, FAILED)).failure?.reason).toBe("DIGEST_MISMATCH");
    expect(await copy()).toMatchObject({ state: CopyState.DAMAGED, problem: "db/16384.dump.zst.0000: differs" });
    expect((await found()).map(({ message }) => message)).toEqual([
      `backup ${backup} of cluster verified is damaged in repository verified: db/16384.dump.zst.0000: differs`,
    ]);
    const sound = await backups().verifyBackup({ backup });
    agent.answer(await agent.next("command"), { result: { case: "verifyBackup", value: { objects: 3, bytes: 17n } } });
    await db.until(sound.id, SUCCEEDED);
    expect(await copy()).toMatchObject({ state: CopyState.STORED, problem: "" });
    expect((await copy())?.verifyTime).toBeDefined();
    expect(await found()).toEqual([]);
  });

  test("that deletes names the stored objects, and nobody else may use the backup meanwhile", async ({ expect }) => {
    const db = await openOperationLab(lab, "deleted", heartbeatMs);
    using agent = await db.connect();
    const backup = await db.makeBackup(agent);
    const reading = await backups().verifyBackup({ backup });
    expect(await refusal(backups().deleteBackup({ backup, allowLast: true }))).toBe("BACKUP_IN_USE");
    agent.answer(await agent.next("command"), { result: { case: "verifyBackup", value: { objects: 3 } } });
    await db.until(reading.id, SUCCEEDED);
    const { id } = await backups().deleteBackup({ backup, allowLast: true });
    const command = await agent.next("command");
    expect(command.spec.value).toMatchObject({
      keys: ["globals.sql.zst.0000", "db/16384.dump.zst.0000", "RECOVER.txt"],
      backup: { manifestSha256: "d".repeat(64) },
    });
    expect((await backups().getBackup({ backup })).copies[0]?.state).toBe(CopyState.DELETING);
    agent.answer(command, { result: { case: "deleteBackup", value: { objects: 4 } } });
    await db.until(id, SUCCEEDED);
    expect(await refusal(backups().getBackup({ backup }))).toBe("BACKUP_NOT_FOUND");
  });

  test("that deletes and fails leaves a backup that can be verified, and is a good one again then", async ({
    expect,
  }) => {
    const db = await openOperationLab(lab, "kept", heartbeatMs);
    using agent = await db.connect();
    const backup = await db.makeBackup(agent);
    const deleting = await backups().deleteBackup({ backup, allowLast: true });
    agent.answer(await agent.next("command"), { failure: { reason: "REPOSITORY_NOT_WRITABLE", message: "EROFS" } });
    await db.until(deleting.id, FAILED);
    const state = async () => (await backups().getBackup({ backup })).copies[0]?.state;
    expect(await state()).toBe(CopyState.DELETING);
    const verifying = await backups().verifyBackup({ backup });
    agent.answer(await agent.next("command"), { result: { case: "verifyBackup", value: { objects: 3 } } });
    await db.until(verifying.id, SUCCEEDED);
    expect(await state()).toBe(CopyState.STORED);
  });

  test("that backs up waits for the one before it on the same cluster and repository", async ({ expect }) => {
    const db = await openOperationLab(lab, "waiting", heartbeatMs);
    const first = await db.backUp();
    const second = await db.backUp();
    using agent = await db.connect();
    const command = await agent.next("command");
    expect(command.operationId).toBe(first);
    agent.accept(command);
    await db.until(first, RUNNING);
    const waiting = await db.get(second);
    expect(waiting.state).toBe(QUEUED);
    expect(waiting.stateReason).toContain(`waits for ${first}`);
    expect(dumpOf(command).clusterFileExpected).toBe(false);
    agent.answer(command, { result: { case: "backupDump", value: dumpResult(dumpOf(command)) } });
    const next = await agent.next("command");
    expect(next.operationId).toBe(second);
    // Where the catalog knows backups of the cluster, a repository that has never heard of it is another one.
    expect(dumpOf(next)).toMatchObject({ clusterFileExpected: true, knownClusters: [dumpOf(next).backup?.clusterId] });
    const check = await lab.client(RepositoryService).checkRepository({ repository: "waiting" });
    const tried = await agent.next("command");
    expect(tried.spec.value).toMatchObject({ knownClusters: [dumpOf(next).backup?.clusterId] });
    agent.answer(tried, { result: { case: "checkRepository", value: {} } });
    await db.until(check.id, SUCCEEDED);
  });

  test("that is heavy waits while its host does two of its kind, and keeps nothing else waiting", async ({
    expect,
  }) => {
    const db = await openOperationLab(lab, "crowded", heartbeatMs);
    const ids = [];
    for (const path of ["/srv/1", "/srv/2", "/srv/3", "/srv/4"]) {
      const name = `crowded-${path.slice(5)}`;
      const location = { kind: { case: "filesystem" as const, value: { path } } };
      await lab.client(RepositoryService).createRepository({ name, homeHost: "crowded", location });
      ids.push((await backups().createBackup({ cluster: "crowded", repository: name })).id);
    }
    const check = await lab.client(ClusterService).checkCluster({ cluster: "crowded" });
    using agent = await db.connect();
    const taken = [await agent.next("command"), await agent.next("command"), await agent.next("command")];
    expect(taken.map(({ operationId }) => operationId)).toEqual([ids[0], ids[1], check.id]);
    const [first] = taken;
    if (first === undefined) throw new Error("there was no command");
    agent.accept(first);
    const waiting = await db.get(ids[3] ?? "");
    expect(waiting.state).toBe(QUEUED);
    expect(waiting.stateReason).toBe("waits for its turn: its host does 2 of this kind at once, and 3 are before it");
    agent.answer(first, { result: { case: "backupDump", value: dumpResult(dumpOf(first)) } });
    expect((await agent.next("command")).operationId).toBe(ids[2]);
    expect((await db.get(ids[3] ?? "")).state).toBe(QUEUED);
  });

  test("that backed up a server does not protect the one that was made anew in its place", async ({ expect }) => {
    const db = await openOperationLab(lab, "anew", heartbeatMs);
    using agent = await db.connect();
    const backup = await db.makeBackup(agent);
    const lastGood = async () =>
      (await lab.client(ClusterService).getCluster({ cluster: "anew" })).lastGoodDump?.backup;
    const isFound = async () => {
      const { findings } = await lab.client(FindingService).listFindings({});
      return findings.some(({ rule, subjectName }) => rule === "no-good-backup" && subjectName === "anew");
    };
    expect([await lastGood(), await isFound()]).toEqual([backup, false]);
    const see = async (systemIdentifier: string) => {
      const { id } = await lab.client(ClusterService).checkCluster({ cluster: "anew" });
      const facts = { systemIdentifier, serverVersionNum: 150_009 };
      agent.answer(await agent.next("command"), { result: { case: "checkCluster", value: { facts } } });
      await db.until(id, SUCCEEDED);
    };
    await see("7999");
    expect([await lastGood(), await isFound()]).toEqual([undefined, true]);
    // It is still the one to restore what is gone, and is not deleted by mistake.
    expect(await refusal(backups().deleteBackup({ backup }))).toBe("LAST_GOOD_BACKUP");
    const restore = { cluster: "anew", database: "orders", targetDatabase: "orders" };
    const planned = await lab.client(RestoreService).planRestore({ restore });
    expect(planned.spec.value).toMatchObject({ restore: { backup } });
    expect((await agent.next("command")).operationId).toBe(planned.id);
    await see("7123");
    expect([await lastGood(), await isFound()]).toEqual([backup, false]);
  });

  test("that a host with a wrong clock took long ago is not the newest for ever", async ({ expect }) => {
    const db = await openOperationLab(lab, "ahead", heartbeatMs);
    using agent = await db.connect();
    const first = await db.makeBackup(agent);
    const ahead = new Date(Date.now() + 365 * 86_400_000);
    const { id } = await lab.client(ClusterService).getCluster({ cluster: "ahead" });
    await lab.catalog.db.update(backupTable).set({ startTime: ahead }).where(eq(backupTable.id, first));
    const second = await db.makeBackup(agent);
    const { lastGoodDump } = await lab.client(ClusterService).getCluster({ cluster: id });
    expect(lastGoodDump?.backup).toBe(second);
  });

  test("that is queued is cancelled at once, and one that has ended cannot be", async ({ expect }) => {
    const db = await openOperationLab(lab, "early", heartbeatMs);
    const operation = await db.backUp();
    expect((await operations().cancelOperation({ operation })).state).toBe(CANCELLED);
    expect(await refusal(operations().cancelOperation({ operation }))).toBe("OPERATION_NOT_CANCELLABLE");
  });

  test("fails when its agent turns out not to know the command", async ({ expect }) => {
    const db = await openOperationLab(lab, "older", heartbeatMs);
    const id = await db.backUp();
    using agent = await db.connect({ capabilities: ["checkCluster"] });
    expect((await db.until(id, FAILED)).failure?.reason).toBe("CAPABILITY_MISSING");
    await agent.next("heartbeat");
  });

  test("shows progress with rate and its log, line by line, from any cursor", async ({ expect }) => {
    const db = await openOperationLab(lab, "shown", heartbeatMs);
    using agent = await db.connect();
    const id = await db.backUp();
    const command = await agent.next("command");
    const { commandId, operationId, fence } = command;
    if (fence === undefined) throw new Error("a command has a fence");
    agent.accept(command);
    const progress = (doneBytes: bigint) =>
      agent.send({
        case: "progress",
        value: {
          commandId,
          operationId,
          fence,
          work: { phase: "dumping", item: "orders", doneBytes, totalBytes: 1000n },
        },
      });
    const log = (firstLine: bigint, ...texts: string[]) =>
      agent.send({
        case: "logChunk",
        value: { operationId, fence, firstLine, lines: texts.map((text) => ({ text })) },
      });
    progress(100n);
    log(0n, "one", "two");
    await expect.poll(async () => (await db.get(id)).progress?.percent).toBe(10);
    progress(500n);
    await expect.poll(async () => (await db.get(id)).progress?.bytesPerSecond ?? 0n).toBeGreaterThan(0n);
    const following: string[] = [];
    let middle = "";
    const follow = (async () => {
      for await (const { text, cursor } of operations().watchLog({ operation: id, follow: true })) {
        following.push(text);
        if (text === "two") middle = cursor;
      }
    })();
    // A repeated line is stored once.
    log(1n, "two", "three");
    agent.send({
      case: "logChunk",
      value: { operationId, fence: { ...fence, number: fence.number - 1n }, firstLine: 9n, lines: [{ text: "stale" }] },
    });
    agent.answer(command, { result: { case: "backupDump", value: dumpResult(dumpOf(command)) } });
    await db.until(id, SUCCEEDED);
    await follow;
    expect(following).toEqual(["one", "two", "three"]);
    const rest = [];
    for await (const { text } of operations().watchLog({ operation: id, cursor: middle })) rest.push(text);
    expect(rest).toEqual(["three"]);
  });

  test("is told once for each cursor: waiting with the newest one lasts until the timeout or the next change", async ({
    expect,
  }) => {
    const db = await openOperationLab(lab, "cursor", heartbeatMs);
    const operation = await db.backUp();
    const { cursor } = await operations().waitOperation({ operation });
    const begunMs = performance.now();
    const same = await operations().waitOperation({ operation, cursor, timeout: { nanos: 300_000_000 } });
    expect(performance.now() - begunMs).toBeGreaterThan(290);
    expect(same.cursor).toBe(cursor);
    const waiting = operations().waitOperation({ operation, cursor, timeout: { seconds: 20n } });
    await operations().cancelOperation({ operation });
    expect((await waiting).state).toBe(CANCELLED);
    expect(await refusal(operations().waitOperation({ operation, cursor: "nonsense" }))).toBe("INVALID_FIELD");
  });
});

test("work goes on across a restart of the control plane, and a result that was not acknowledged counts", async ({
  expect,
}) => {
  const db = await openOperationLab(lab, "restarted", heartbeatMs);
  using before = await db.connect({ bootId: "boot" });
  const id = await db.backUp();
  const command = await before.next("command");
  before.accept(command);
  await db.until(id, RUNNING);
  await lab.restart();
  const { commandId, operationId, fence } = command;
  const inFlight = [{ commandId, operationId, ...(fence ? { fence } : {}), hasResult: true }];
  using after = await db.connect({ bootId: "boot", inFlight, address: lab.app.address });
  after.answer(command, { result: { case: "backupDump", value: dumpResult(dumpOf(command)) } });
  expect((await after.next("ack")).commandId).toBe(commandId);
  // Told again, it is acknowledged again and changes nothing.
  after.answer(command, { failure: { reason: "CLUSTER_UNREACHABLE", message: "another story" } });
  expect((await after.next("ack")).commandId).toBe(commandId);
  expect((await db.until(id, SUCCEEDED)).attempts).toHaveLength(1);
});
