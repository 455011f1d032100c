// What becomes of operations whose agent is lost, at the edge that agents see: the protocol. Long because each way to be
// lost is a case of its own, and all of them share one control plane.
import type { Command } from "@coppice/proto/gen/coppice/agent/v1/command";
import { BackupService, CopyState } from "@coppice/proto/gen/coppice/control/v1/backup";
import { ClusterService } from "@coppice/proto/gen/coppice/control/v1/cluster";
import { type Operation, OperationService, OperationState } from "@coppice/proto/gen/coppice/control/v1/operation";
import { RestoreService } from "@coppice/proto/gen/coppice/control/v1/restore";
import { afterAll, beforeAll, describe, test } from "vitest";
import { type ControlPlaneLab, openControlPlaneLab } from "../support/control-plane-lab.ts";
import { dumpOf, dumpResult, openOperationLab } from "../support/operation-lab.ts";
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

const known = ({ commandId, operationId, fence }: Command) => ({ commandId, operationId, ...(fence ? { fence } : {}) });
const attempts = ({ attempts }: Operation) =>
  attempts.map(({ settling, failure }) => `${settling ? "look" : "try"} ${failure?.reason ?? "ok"}`);
const nothing = { result: { case: "settle" as const, value: { removed: ["db/16384.dump.zst.0000"] } } };

/** Takes the next command and begins it. */
async function begin(agent: SimulatedAgent): Promise<Command> {
  const command = await agent.next("command");
  agent.accept(command);
  return command;
}

describe.concurrent("an operation whose agent was lost", () => {
  test("is looked after, and tried again when nothing came of it", async ({ expect }) => {
    const db = await openOperationLab(lab, "retried", heartbeatMs);
    using first = await db.connect();
    const id = await db.backUp();
    const lost = await begin(first);
    await db.until(id, RUNNING);
    first.cut();
    using second = await db.connect();
    const settle = await second.next("command");
    expect(settle.spec.case).toBe("settle");
    expect(dumpOf(settle).backup?.backupId).toBe(dumpOf(lost).backup?.backupId);
    expect(settle.secrets.map(({ value }) => value)).toEqual(["password of retried"]);
    expect((await db.get(id)).state).toBe(INDETERMINATE);
    second.answer(settle, nothing);
    const again = await begin(second);
    expect(dumpOf(again).backup?.folder).toBe(dumpOf(lost).backup?.folder);
    // The lost attempt's own answer comes late: it is taken off the agent's hands and changes nothing.
    second.answer(lost, { result: { case: "backupDump", value: dumpResult(dumpOf(lost)) } });
    await second.next("ack");
    expect((await db.until(id, RUNNING)).endTime).toBeUndefined();
    second.answer(again, { result: { case: "backupDump", value: dumpResult(dumpOf(again)) } });
    const done = await db.until(id, SUCCEEDED);
    expect(attempts(done)).toEqual(["try AGENT_LOST", "look AGENT_LOST", "try ok"]);
    const lines = [];
    for await (const { text } of lab.client(OperationService).watchLog({ operation: id })) lines.push(text);
    expect(lines).toEqual(["cleared away: db/16384.dump.zst.0000"]);
  });

  test("has succeeded when the look finds its backup whole", async ({ expect }) => {
    const db = await openOperationLab(lab, "found", heartbeatMs);
    using first = await db.connect();
    const id = await db.backUp();
    await begin(first);
    await db.until(id, RUNNING);
    first.cut();
    using second = await db.connect();
    const settle = await second.next("command");
    const outcome = { case: "backupDump" as const, value: dumpResult(dumpOf(settle)) };
    second.answer(settle, { result: { case: "settle", value: { outcome } } });
    const done = await db.until(id, SUCCEEDED);
    expect(attempts(done)).toEqual(["try AGENT_LOST", "look ok"]);
    const { backups } = await lab.client(BackupService).listBackups({ cluster: "found" });
    expect(backups.map(({ complete, copies }) => [complete, copies[0]?.state])).toEqual([[true, CopyState.STORED]]);
  });

  test("stays unknown while nobody can look, and is looked at again", async ({ expect }) => {
    const db = await openOperationLab(lab, "blind", heartbeatMs);
    using first = await db.connect();
    const id = await db.backUp();
    await begin(first);
    await db.until(id, RUNNING);
    first.cut();
    using second = await db.connect();
    const settle = await second.next("command");
    second.answer(settle, { failure: { reason: "REPOSITORY_UNREACHABLE", message: "/srv/blind is not there" } });
    await second.next("ack");
    const unknown = await db.get(id);
    expect(unknown.state).toBe(INDETERMINATE);
    expect(unknown.stateReason).toContain("/srv/blind is not there");
    const again = await second.next("command");
    expect(again.spec.case).toBe("settle");
    const outcome = { case: "backupDump" as const, value: dumpResult(dumpOf(again)) };
    second.answer(again, { result: { case: "settle", value: { outcome } } });
    expect(attempts(await db.until(id, SUCCEEDED))).toEqual([
      "try AGENT_LOST",
      "look REPOSITORY_UNREACHABLE",
      "look ok",
    ]);
  });

  test("goes on when the agent comes back and still works on it", async ({ expect }) => {
    const db = await openOperationLab(lab, "back", heartbeatMs);
    using first = await db.connect({ bootId: "boot" });
    const id = await db.backUp();
    const command = await begin(first);
    await db.until(id, RUNNING);
    first.cut();
    await expect
      .poll(async () => (await db.get(id)).stateReason, { interval: 50 })
      .toMatch(/nobody knows how far it is until there is word from the agent of back, lost at/);
    using second = await db.connect({ bootId: "boot", inFlight: [known(command)] });
    second.answer(command, { result: { case: "backupDump", value: dumpResult(dumpOf(command)) } });
    expect(attempts(await db.until(id, SUCCEEDED))).toEqual(["try ok"]);
  });

  test("that changes nothing is simply repeated, and fails after the third loss", async ({ expect }) => {
    const db = await openOperationLab(lab, "repeated", heartbeatMs);
    const { id } = await lab.client(ClusterService).checkCluster({ cluster: "repeated" });
    for (let times = 0; times < 3; times++) {
      using agent = await db.connect();
      const command = await begin(agent);
      expect(command.spec.case).toBe("checkCluster");
      await db.until(id, RUNNING);
      agent.cut();
      await agent.status;
    }
    using last = await db.connect();
    const failed = await db.until(id, FAILED);
    expect(failed.failure?.reason).toBe("AGENT_LOST");
    expect(attempts(failed)).toEqual(Array(3).fill("try AGENT_LOST"));
    await last.next("heartbeat");
  });

  test("is cancelled when a cancel was asked for and nothing came of it", async ({ expect }) => {
    const db = await openOperationLab(lab, "cancelled", heartbeatMs);
    using first = await db.connect();
    const id = await db.backUp();
    const command = await begin(first);
    await db.until(id, RUNNING);
    await lab.client(OperationService).cancelOperation({ operation: id });
    expect((await first.next("cancel")).fence).toEqual(command.fence);
    first.cut();
    await first.status;
    using second = await db.connect();
    second.answer(await second.next("command"), nothing);
    expect(attempts(await db.until(id, CANCELLED))).toEqual(["try AGENT_LOST", "look AGENT_LOST"]);
  });

  test("is told again to stop when its agent is back", async ({ expect }) => {
    const db = await openOperationLab(lab, "stopping", heartbeatMs);
    using first = await db.connect({ bootId: "boot" });
    const id = await db.backUp();
    const command = await begin(first);
    await db.until(id, RUNNING);
    first.cut();
    await first.status;
    await lab.client(OperationService).cancelOperation({ operation: id });
    await db.until(id, CANCELLING);
    using second = await db.connect({ bootId: "boot", inFlight: [known(command)] });
    expect((await second.next("cancel")).operationId).toBe(id);
    second.answer(command, { cancelled: true, leavings: ["a file that may not be removed"] });
    expect((await db.until(id, CANCELLED)).leavings).toEqual(["a file that may not be removed"]);
  });

  test("and that is a restore fails without another try, unless the look finds the database in place", async ({
    expect,
  }) => {
    const db = await openOperationLab(lab, "restored", heartbeatMs);
    using first = await db.connect();
    const backup = await db.makeBackup(first);
    const request = { cluster: "restored", backup, database: "orders", targetDatabase: "copy" };
    const failing = await lab.client(RestoreService).createRestore({ restore: request });
    await begin(first);
    await db.until(failing.id, RUNNING);
    first.cut();
    using second = await db.connect();
    second.answer(await second.next("command"), nothing);
    expect((await db.until(failing.id, FAILED)).failure).toMatchObject({
      reason: "AGENT_LOST",
      hint: `start it again; what was cleared away: \`coppice operation logs ${failing.id}\``,
    });

    const found = await lab.client(RestoreService).createRestore({ restore: request });
    await begin(second);
    await db.until(found.id, RUNNING);
    second.cut();
    using third = await db.connect();
    const outcome = { case: "restoreDatabase" as const, value: { database: "copy", rows: 5n } };
    third.answer(await third.next("command"), { result: { case: "settle", value: { outcome } } });
    expect((await db.until(found.id, SUCCEEDED)).result.value).toMatchObject({ database: "copy", rows: 5n });
  });

  test("is looked after when the agent itself does not know how it ended", async ({ expect }) => {
    const db = await openOperationLab(lab, "unsure", heartbeatMs);
    using agent = await db.connect();
    const id = await db.backUp();
    agent.answer(await agent.next("command"), { failure: { reason: "OUTCOME_UNKNOWN", message: "it came in before" } });
    const settle = await agent.next("command");
    expect(settle.spec.case).toBe("settle");
    agent.answer(settle, nothing);
    const again = await begin(agent);
    agent.answer(again, { result: { case: "backupDump", value: dumpResult(dumpOf(again)) } });
    expect(attempts(await db.until(id, SUCCEEDED))).toEqual(["try OUTCOME_UNKNOWN", "look AGENT_LOST", "try ok"]);
  });

  test("and that nobody waits for any more is stopped on its agent", async ({ expect }) => {
    const db = await openOperationLab(lab, "orphaned", heartbeatMs);
    const fence = { incarnation: 1n, number: 1n };
    const operationId = "op_01jd3kz9m8f7s6r5q4p3n2b1a0";
    using agent = await db.connect({ inFlight: [{ commandId: "cmd_x", operationId, fence }] });
    expect(await agent.next("cancel")).toMatchObject({ operationId, fence });
  });

  test("waits in the queue and says for whom, when its agent was never there", async ({ expect }) => {
    const db = await openOperationLab(lab, "absent", heartbeatMs);
    const operation = await db.get(await db.backUp());
    expect(operation.state).toBe(QUEUED);
    expect(operation.stateReason).toBe("waits for the agent of absent, which has not connected yet");
  });
});
