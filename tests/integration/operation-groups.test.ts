// Groups of operations: a restore of a whole cluster, at the edge that agents see. Long because each way in which one of a
// group can end is a case of its own, and all of them share one control plane.
import { create } from "@bufbuild/protobuf";
import type { Command } from "@coppice/proto/gen/coppice/agent/v1/command";
import { RestoreMode } from "@coppice/proto/gen/coppice/agent/v1/restore_database";
import { BackupService } from "@coppice/proto/gen/coppice/control/v1/backup";
import { HostService } from "@coppice/proto/gen/coppice/control/v1/host";
import {
  type Operation,
  OperationResolution,
  OperationService,
  OperationState,
} from "@coppice/proto/gen/coppice/control/v1/operation";
import { RestoreRequestSchema, RestoreService, RestoreWhat } from "@coppice/proto/gen/coppice/control/v1/restore";
import { failureFromConnectError } from "@coppice/proto/kit/connect-failure";
import { afterAll, beforeAll, describe, test } from "vitest";
import { type ControlPlaneLab, openControlPlaneLab } from "../support/control-plane-lab.ts";
import { dumpOf, dumpResult, openOperationLab, type OperationLab } from "../support/operation-lab.ts";
import type { SimulatedAgent } from "../support/simulated-agent.ts";

const heartbeatMs = 1000;
const { QUEUED, RUNNING, SUCCEEDED, FAILED, CANCELLED, CANCELLING, INDETERMINATE } = OperationState;
let lab: ControlPlaneLab;

beforeAll(async () => {
  lab = await openControlPlaneLab({ heartbeatMs });
});
afterAll(async () => {
  await lab[Symbol.asyncDispose]();
});

const operations = () => lab.client(OperationService);
const refusal = async (work: Promise<unknown>) => {
  const error: unknown = await work.then(
    () => "it was not refused",
    (caught: unknown) => caught,
  );
  return failureFromConnectError(error);
};

/** A backup of three databases, played by the agent. */
async function storeBackup(db: OperationLab, agent: SimulatedAgent): Promise<string> {
  const id = await db.backUp();
  const command = await agent.next("command");
  const one = dumpResult(dumpOf(command));
  const content = one.manifest?.content;
  if (content?.case !== "dump") throw new Error("it is no dump");
  const [database] = content.value.databases;
  const databases = ["postgres", "orders", "stock"].map((name) => ({ ...database!, name }));
  const value = dumpResult(dumpOf(command), { content: { case: "dump", value: { ...content.value, databases } } });
  agent.answer(command, { result: { case: "backupDump", value } });
  await db.until(id, SUCCEEDED);
  return value.manifest?.backupId ?? "";
}

const restoreAll = (cluster: string, more: object = {}) =>
  lab.client(RestoreService).createRestore({
    restore: create(RestoreRequestSchema, { cluster, what: RestoreWhat.CLUSTER, ...more }),
  });

async function childrenOf(group: string): Promise<Operation[]> {
  const { operations: all } = await operations().listOperations({ page: { pageSize: 500 } });
  return all.filter(({ parent }) => parent === group).toReversed();
}

const states = async (group: string) => (await childrenOf(group)).map(({ state }) => OperationState[state]);

function databaseOf({ spec }: Command): string {
  return spec.case === "restoreDatabase" ? spec.value.database : (spec.case ?? "");
}

/** Does the next command of a group well, and gives what it was. */
async function doNext(agent: SimulatedAgent): Promise<string> {
  const command = await agent.next("command");
  agent.accept(command);
  if (command.spec.case === "restoreGlobals") {
    agent.answer(command, { result: { case: "restoreGlobals", value: { createdRoles: ["app"] } } });
  } else {
    const database = databaseOf(command);
    agent.answer(command, { result: { case: "restoreDatabase", value: { database, tables: 2, rows: 10n } } });
  }
  return databaseOf(command);
}

describe.concurrent("a restore of a whole cluster", () => {
  test("restores globals and databases one after the other, and sums up what came of it", async ({ expect }) => {
    const db = await openOperationLab(lab, "whole", heartbeatMs);
    using agent = await db.connect();
    const backup = await storeBackup(db, agent);
    const group = await restoreAll("whole");
    expect(group).toMatchObject({ kind: "restore_cluster", state: QUEUED, parent: "", hostName: "whole" });
    expect(await states(group.id)).toHaveLength(4);
    expect((await refusal(restoreAll("whole"))).reason).toBe("OPERATION_CONFLICT");
    const deletion = lab.client(BackupService).deleteBackup({ backup, allowLast: true });
    expect((await refusal(deletion)).message).toContain(group.id);

    const first = await agent.next("command");
    expect(first.spec.case).toBe("restoreGlobals");
    agent.accept(first);
    await db.until(group.id, RUNNING);
    expect((await childrenOf(group.id)).map(({ state }) => state)).toEqual([RUNNING, QUEUED, QUEUED, QUEUED]);
    agent.answer(first, { result: { case: "restoreGlobals", value: { createdRoles: ["app"] } } });
    const modes = [];
    for (let left = 3; left > 0; left--) {
      const command = await agent.next("command");
      if (command.spec.case !== "restoreDatabase") throw new Error(`${command.spec.case} came`);
      const { database, mode } = command.spec.value;
      modes.push([database, mode]);
      agent.accept(command);
      const work = { phase: "restoring", item: database, doneBytes: 5n, totalBytes: 10n };
      agent.send({ case: "progress", value: { operationId: command.operationId, fence: command.fence!, work } });
      if (database === "stock") {
        const seen = await waitForPercent(db, group.id, 87);
        expect(seen.progress?.work).toMatchObject({ phase: "restoring", item: "stock", doneItems: 3, totalItems: 4 });
      }
      agent.answer(command, { result: { case: "restoreDatabase", value: { database, tables: 2, rows: 10n } } });
    }
    // What every cluster has from the beginning is filled.
    expect(modes).toEqual([
      ["postgres", RestoreMode.INTO],
      ["orders", RestoreMode.NEW],
      ["stock", RestoreMode.NEW],
    ]);
    const done = await db.until(group.id, SUCCEEDED);
    expect(done.result).toMatchObject({
      case: "restoredCluster",
      value: { databases: 3, tables: 6, rows: 30n, restored: ["postgres", "orders", "stock"], createdRoles: ["app"] },
    });
    expect(done.progress?.percent).toBe(100);
    expect(done.startTime).toBeDefined();
    expect((await lab.client(BackupService).deleteBackup({ backup, allowLast: true })).id).toMatch(/^op_/);
  });

  test("swaps every database when they are to be replaced", async ({ expect }) => {
    const db = await openOperationLab(lab, "swapped", heartbeatMs);
    using agent = await db.connect();
    await storeBackup(db, agent);
    const { spec } = await lab.client(RestoreService).createRestore({
      restore: { cluster: "swapped", what: RestoreWhat.CLUSTER, replace: true },
      validateOnly: true,
    });
    expect(spec.value).toMatchObject({ databases: ["postgres", "orders", "stock"], replace: true });
    const group = await restoreAll("swapped", { replace: true });
    for (const { spec } of (await childrenOf(group.id)).slice(1)) expect(spec.value).toMatchObject({ replace: true });
    await operations().cancelOperation({ operation: group.id });
  });

  test("stops at the first that fails, and lists what was restored and stays", async ({ expect }) => {
    const db = await openOperationLab(lab, "half", heartbeatMs);
    using agent = await db.connect();
    await storeBackup(db, agent);
    const { id } = await restoreAll("half");
    expect(await doNext(agent)).toBe("restoreGlobals");
    expect(await doNext(agent)).toBe("postgres");
    const command = await agent.next("command");
    agent.accept(command);
    const failure = { reason: "SPACE_MISSING", message: "the disk is full" };
    agent.answer(command, { failure, leavings: ["the database coppice_restore_x"] });
    const failed = await db.until(id, FAILED);
    expect(failed.failure).toMatchObject({
      reason: "SPACE_MISSING",
      message: 'database "orders": the disk is full',
      operation: command.operationId,
    });
    expect(failed.leavings).toEqual(["the database coppice_restore_x"]);
    expect(failed.result.value).toMatchObject({ restored: ["postgres"], notRestored: ["orders", "stock"] });
    const children = await childrenOf(id);
    expect(children.map(({ state }) => state)).toEqual([SUCCEEDED, SUCCEEDED, FAILED, CANCELLED]);
    expect(children[3]?.stateReason).toBe('not begun: database "orders" failed');
  });

  test("cancelled before it began is over at once", async ({ expect }) => {
    const db = await openOperationLab(lab, "unbegun", heartbeatMs);
    {
      using agent = await db.connect();
      await storeBackup(db, agent);
    }
    const { id } = await restoreAll("unbegun");
    // Whoever cancels one of a group cancels the group.
    await operations().cancelOperation({ operation: (await childrenOf(id))[2]!.id });
    const ended = await db.get(id);
    expect([ended.state, ended.startTime]).toEqual([CANCELLED, undefined]);
    expect(new Set(await states(id))).toEqual(new Set(["CANCELLED"]));
    expect((await refusal(operations().cancelOperation({ operation: id }))).reason).toBe("OPERATION_NOT_CANCELLABLE");
  });

  test("cancelled on the way ends when its agent has stopped, and begins nothing further", async ({ expect }) => {
    const db = await openOperationLab(lab, "stopped", heartbeatMs);
    using agent = await db.connect();
    await storeBackup(db, agent);
    const { id } = await restoreAll("stopped");
    await doNext(agent);
    const command = await agent.next("command");
    agent.accept(command);
    await db.until(command.operationId, RUNNING);
    await operations().cancelOperation({ operation: id });
    expect((await agent.next("cancel")).operationId).toBe(command.operationId);
    expect((await db.get(id)).state).toBe(CANCELLING);
    expect(await states(id)).toEqual(["SUCCEEDED", "CANCELLING", "CANCELLED", "CANCELLED"]);
    agent.answer(command, { cancelled: true });
    const ended = await db.until(id, CANCELLED);
    expect(ended.result.value).toMatchObject({ restored: [], notRestored: ["postgres", "orders", "stock"] });
  });

  test("stays open while nobody knows how one of it ended, and goes on when that was found well", async ({
    expect,
  }) => {
    const db = await openOperationLab(lab, "open", heartbeatMs);
    using first = await db.connect();
    await storeBackup(db, first);
    const { id } = await restoreAll("open");
    await doNext(first);
    await doNext(first);
    const command = await first.next("command");
    first.accept(command);
    await db.until(command.operationId, RUNNING);
    first.cut();
    using second = await db.connect();
    const settle = await second.next("command");
    expect([settle.operationId, settle.spec.case]).toEqual([command.operationId, "settle"]);
    await db.until(command.operationId, INDETERMINATE);
    const waiting = await db.get(id);
    expect([waiting.state, waiting.endTime]).toEqual([RUNNING, undefined]);
    expect(waiting.stateReason).toContain(`${command.operationId} (database "orders"): attempt 1 was cut off`);
    const outcome = { case: "restoreDatabase" as const, value: { database: "orders", rows: 5n } };
    second.answer(settle, { result: { case: "settle", value: { outcome } } });
    expect(await doNext(second)).toBe("stock");
    expect((await db.until(id, SUCCEEDED)).result.value).toMatchObject({ databases: 3 });
  });

  test("fails with the one of it that somebody gives up", async ({ expect }) => {
    const db = await openOperationLab(lab, "given-up", heartbeatMs);
    using first = await db.connect();
    await storeBackup(db, first);
    const { id } = await restoreAll("given-up");
    await doNext(first);
    const command = await first.next("command");
    first.accept(command);
    await db.until(command.operationId, RUNNING);
    first.cut();
    using second = await db.connect();
    await second.next("command");
    await db.until(command.operationId, INDETERMINATE);
    const resolution = OperationResolution.ABANDON;
    expect((await refusal(operations().resolveOperation({ operation: id, resolution }))).reason).toBe(
      "OPERATION_NOT_INDETERMINATE",
    );
    await operations().resolveOperation({ operation: command.operationId, resolution });
    const failed = await db.get(id);
    expect(failed).toMatchObject({ state: FAILED, failure: { reason: "OPERATION_ABANDONED" } });
    expect(failed.leavings[0]).toContain("postgres");
  });

  test("ends with its host, but for the one of it that nobody knows of", async ({ expect }) => {
    const db = await openOperationLab(lab, "revoked-group", heartbeatMs);
    using agent = await db.connect();
    await storeBackup(db, agent);
    const { id } = await restoreAll("revoked-group");
    await doNext(agent);
    const command = await agent.next("command");
    agent.accept(command);
    await db.until(command.operationId, RUNNING);
    await lab.client(HostService).revokeHost({ host: "revoked-group" });
    expect(await states(id)).toEqual(["SUCCEEDED", "INDETERMINATE", "FAILED", "CANCELLED"]);
    expect((await db.get(id)).endTime).toBeUndefined();
    const resolution = OperationResolution.ABANDON;
    await operations().resolveOperation({ operation: command.operationId, resolution });
    expect((await db.get(id)).state).toBe(FAILED);
  });

  test("fails when its agent does not know a command, having begun nothing", async ({ expect }) => {
    const db = await openOperationLab(lab, "old-agent", heartbeatMs);
    {
      using agent = await db.connect();
      await storeBackup(db, agent);
    }
    const { id } = await restoreAll("old-agent");
    using _ = await db.connect({ capabilities: ["backupDump"] });
    expect((await db.until(id, FAILED)).failure).toMatchObject({ reason: "CAPABILITY_MISSING" });
    expect(await states(id)).toEqual(["FAILED", "CANCELLED", "CANCELLED", "CANCELLED"]);
    expect((await refusal(restoreAll("old-agent"))).reason).toBe("CAPABILITY_MISSING");
  });

  test("is one however often it is asked for with one request id", async ({ expect }) => {
    const db = await openOperationLab(lab, "once", heartbeatMs);
    using agent = await db.connect();
    await storeBackup(db, agent);
    const ask = () =>
      lab.client(RestoreService).createRestore({
        restore: { cluster: "once", what: RestoreWhat.CLUSTER },
        requestId: "only once",
      });
    const asked = await Promise.all([ask(), ask(), ask()]);
    expect(new Set(asked.map(({ id }) => id)).size).toBe(1);
    const [{ id }] = asked;
    expect(await childrenOf(id)).toHaveLength(4);
    await doNext(agent);
    expect((await ask()).id).toBe(id);
    for (let left = 3; left > 0; left--) await doNext(agent);
    await db.until(id, SUCCEEDED);
    expect((await ask()).state).toBe(SUCCEEDED);
  });
});

// By itself: the others would notice.
test("a group goes on where it was when the control plane was away", async ({ expect }) => {
  const db = await openOperationLab(lab, "rebooted", heartbeatMs);
  using before = await db.connect({ bootId: "boot" });
  await storeBackup(db, before);
  const { id } = await restoreAll("rebooted");
  await doNext(before);
  const command = await before.next("command");
  before.accept(command);
  await db.until(command.operationId, RUNNING);
  await lab.restart();
  const { commandId, operationId, fence } = command;
  const inFlight = [{ commandId, operationId, ...(fence ? { fence } : {}), hasResult: true }];
  using after = await db.connect({ bootId: "boot", inFlight, address: lab.app.address });
  const result = { case: "restoreDatabase" as const, value: { database: databaseOf(command) } };
  after.answer(command, { result });
  // Told again, it begins nothing twice.
  after.answer(command, { result });
  expect(await doNext(after)).toBe("orders");
  expect(await doNext(after)).toBe("stock");
  await db.until(id, SUCCEEDED);
  expect(await childrenOf(id)).toHaveLength(4);
  expect((await childrenOf(id)).every(({ attempts }) => attempts.length === 1)).toBe(true);
});

async function waitForPercent(db: OperationLab, operation: string, percent: number): Promise<Operation> {
  for (let seen = await db.get(operation); ;) {
    if ((seen.progress?.percent ?? 0) > percent) return seen;
    seen = await operations().waitOperation({ operation, cursor: seen.cursor, timeout: { seconds: 10n } });
  }
}
