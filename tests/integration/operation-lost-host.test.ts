// What people can do about operations and hosts that are lost for good.
import { AuditService } from "@coppice/proto/gen/coppice/control/v1/audit";
import { BackupService } from "@coppice/proto/gen/coppice/control/v1/backup";
import { ClusterService } from "@coppice/proto/gen/coppice/control/v1/cluster";
import { HostService, HostState } from "@coppice/proto/gen/coppice/control/v1/host";
import { OperationResolution, OperationService, OperationState } from "@coppice/proto/gen/coppice/control/v1/operation";
import { RestoreService } from "@coppice/proto/gen/coppice/control/v1/restore";
import { failureFromConnectError } from "@coppice/proto/kit/connect-failure";
import { parseEnrolmentToken } from "@coppice/proto/kit/enrolment-token";
import { afterAll, beforeAll, describe, test } from "vitest";
import { enrol } from "../../agent/src/session/enrolment.ts";
import { type ControlPlaneLab, openControlPlaneLab } from "../support/control-plane-lab.ts";
import { dumpOf, dumpResult, openOperationLab } from "../support/operation-lab.ts";
import { openSimulatedAgent } from "../support/simulated-agent.ts";

const heartbeatMs = 1000;
const { RUNNING, SUCCEEDED, FAILED, CANCELLED, INDETERMINATE } = OperationState;
const resolution = OperationResolution.ABANDON;
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
const audited = async (action: string, subject: string) => {
  const { records } = await lab.client(AuditService).listAuditRecords({});
  return records.filter((one) => one.action.endsWith(action) && one.subject === subject).length;
};

describe.concurrent("an operation of unknown outcome", () => {
  test("is abandoned: it has failed, says what may be left, and what it held is free", async ({ expect }) => {
    const db = await openOperationLab(lab, "abandoned", heartbeatMs);
    using first = await db.connect();
    const backup = await db.makeBackup(first);
    const restore = { cluster: "abandoned", backup, database: "orders", targetDatabase: "copy" };
    const { id: operation } = await lab.client(RestoreService).createRestore({ restore });
    first.accept(await first.next("command"));
    await db.until(operation, RUNNING);
    const early = await refusal(operations().resolveOperation({ operation, resolution }));
    expect(early).toMatchObject({ reason: "OPERATION_NOT_INDETERMINATE", code: "failed_precondition" });
    expect(early.hint).toContain("coppice host revoke");
    const told: string[] = [];
    const watching = (async () => {
      for await (const { stateReason } of operations().watchOperation({ operation })) told.push(stateReason);
    })();
    first.cut();
    // Who watches is told, although nothing of the operation has changed.
    await expect
      .poll(() => told.at(-1), { timeout: 15_000 })
      .toMatch(/^nobody knows how far it is until there is word from the agent of abandoned, lost at /);
    using second = await db.connect();
    const settle = await second.next("command");
    await db.until(operation, INDETERMINATE);
    const deletion = () => lab.client(BackupService).deleteBackup({ backup, allowLast: true });
    expect((await refusal(deletion())).reason).toBe("BACKUP_IN_USE");
    expect((await refusal(lab.client(RestoreService).createRestore({ restore }))).reason).toBe("OPERATION_CONFLICT");

    const request = { operation, resolution, requestId: "give it up" };
    const { state, failure, attempts, leavings } = await operations().resolveOperation(request);
    expect(state).toBe(FAILED);
    await watching;
    expect(failure).toMatchObject({ reason: "OPERATION_ABANDONED", operation });
    expect(failure?.message).toContain("nobody has looked how attempt 1 ended");
    expect(leavings).toHaveLength(1);
    expect(leavings[0]).toMatch(/^not looked at, may be there: the staged database \S+ in cluster abandoned/);
    expect(attempts.every(({ endTime }) => endTime !== undefined)).toBe(true);
    // Repeated it is the same; without its request id it is another one, which comes too late.
    expect((await operations().resolveOperation(request)).state).toBe(FAILED);
    expect(await audited("ResolveOperation", operation)).toBe(1);
    expect((await refusal(operations().resolveOperation({ operation, resolution }))).reason).toBe(
      "OPERATION_NOT_INDETERMINATE",
    );
    // The look that was under way comes to its end and changes nothing.
    const outcome = { case: "restoreDatabase" as const, value: { database: "copy", rows: 5n } };
    second.answer(settle, { result: { case: "settle", value: { outcome } } });
    await second.next("ack");
    expect((await db.get(operation)).state).toBe(FAILED);
    expect(
      (await refusal(operations().resolveOperation({ ...request, operation: (await deletion()).id }))).reason,
    ).toBe("REQUEST_ID_REUSED");
  });

  test("is no way to end one that is queued", async ({ expect }) => {
    const db = await openOperationLab(lab, "still-queued", heartbeatMs);
    const operation = await db.backUp();
    const { reason, message } = await refusal(operations().resolveOperation({ operation, resolution }));
    expect([reason, message]).toEqual(["OPERATION_NOT_INDETERMINATE", `${operation} is queued, not indeterminate`]);
  });
});

describe.concurrent("a host that is revoked", () => {
  test("is cut off for good, ends its work, and keeps clusters and backups for who enrols after it", async ({
    expect,
  }) => {
    const db = await openOperationLab(lab, "revoked", heartbeatMs);
    using agent = await db.connect();
    const backup = await db.makeBackup(agent);
    const running = await db.backUp();
    agent.accept(await agent.next("command"));
    const queued = await db.backUp();
    const check = (await lab.client(ClusterService).checkCluster({ cluster: "revoked" })).id;
    agent.accept(await agent.next("command"));
    await db.until(check, RUNNING);
    await db.until(running, RUNNING);
    const read = await lab.client(HostService).getHost({ host: "revoked" });
    expect((await refusal(lab.client(HostService).deleteHost({ host: "revoked" }))).hint).toContain("host revoke");

    const { state, etag } = await lab.client(HostService).revokeHost({ host: "revoked", etag: read.etag });
    expect(state).toBe(HostState.PENDING);
    expect(etag).not.toBe(read.etag);
    // Whichever is noticed first: the notice of the revocation, or that the session's epoch is no longer the host's.
    expect((await agent.next("goodbye")).reason).toMatch(/^(revoked or )?replaced$/);
    using again = openSimulatedAgent({ identity: db.identity, address: lab.app.address, heartbeatMs });
    expect((await again.status).details).toContain("the certificate of revoked was revoked at");
    expect((await db.get(running)).state).toBe(INDETERMINATE);
    for (const id of [queued, check]) {
      expect((await db.until(id, FAILED)).failure).toMatchObject({ reason: "HOST_REVOKED", operation: id });
    }
    expect(await audited("RevokeHost", read.id)).toBe(1);
    const late = await refusal(lab.client(HostService).revokeHost({ host: "revoked", etag: read.etag }));
    expect(late.reason).toBe("ETAG_MISMATCH");
    const { backups } = await lab.client(BackupService).listBackups({ cluster: "revoked" });
    expect(backups.map(({ id }) => id)).toEqual([backup]);

    const identity = await lab.enrol("revoked");
    expect(identity.hostId).toBe(db.identity.hostId);
    using heir = await db.connect({ identity });
    const settle = await heir.next("command");
    expect([settle.operationId, settle.spec.case]).toEqual([running, "settle"]);
    const outcome = { case: "backupDump" as const, value: dumpResult(dumpOf(settle)) };
    heir.answer(settle, { result: { case: "settle", value: { outcome } } });
    await db.until(running, SUCCEEDED);
    const { id: verifying } = await lab.client(BackupService).verifyBackup({ backup });
    heir.answer(await heir.next("command"), { result: { case: "verifyBackup", value: { objects: 3 } } });
    await db.until(verifying, SUCCEEDED);
  });

  test("loses the token that was made for it, and what was being cancelled is over", async ({ expect }) => {
    const db = await openOperationLab(lab, "ending", heartbeatMs);
    using agent = await db.connect();
    const { id } = await lab.client(ClusterService).checkCluster({ cluster: "ending" });
    agent.accept(await agent.next("command"));
    await db.until(id, RUNNING);
    await operations().cancelOperation({ operation: id });
    await lab.client(HostService).revokeHost({ host: "ending" });
    await db.until(id, CANCELLED);
    const { token } = await lab.client(HostService).createEnrolment({ hostName: "ending" });
    await lab.client(HostService).revokeHost({ host: "ending" });
    await expect(enrol(parseEnrolmentToken(token), "0.0.0-test", AbortSignal.timeout(10_000))).rejects.toMatchObject({
      reason: "TOKEN_UNKNOWN",
    });
  });
});
