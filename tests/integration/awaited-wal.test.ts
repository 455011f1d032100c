// WAL that a backup waits for, as the control plane passes it on: agents played by the test, one that backs up, one that
// archives.
import { setTimeout as delay } from "node:timers/promises";
import type { EndSegment } from "@coppice/proto/gen/coppice/agent/v1/wal_archive";
import { BackupKind } from "@coppice/proto/gen/coppice/common/v1/backup_kind";
import { BackupService } from "@coppice/proto/gen/coppice/control/v1/backup";
import { OperationState } from "@coppice/proto/gen/coppice/control/v1/operation";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type AwaitedWal, listAwaitedWal } from "../../control-plane/src/catalog/operations/awaited-wal.ts";
import { type ControlPlaneLab, openControlPlaneLab } from "../support/control-plane-lab.ts";
import { openOperationLab } from "../support/operation-lab.ts";
import { physicalOf, physicalResult, systemIdentifier } from "../support/physical/played-backups.ts";
import type { SimulatedAgent } from "../support/simulated-agent.ts";
import { openArchived, report, run } from "../support/wal/told-archive.ts";

const heartbeatMs = 1000;
/** Longer than two turns of the control plane. */
const quietMs = 4500;
let lab: ControlPlaneLab;

beforeAll(async () => {
  lab = await openControlPlaneLab({ heartbeatMs });
});
afterAll(async () => {
  await lab[Symbol.asyncDispose]();
});

/** Everything that an agent is asked for until its session ends; nothing else is to be read of it. */
function listenTo(agent: SimulatedAgent): readonly EndSegment[] {
  const asks: EndSegment[] = [];
  void (async () => {
    for (;;) asks.push(await agent.next("endSegment"));
  })().catch(() => undefined);
  return asks;
}

test("it is asked of the agent that archives, again and again, as long as the backup runs and waits, and no longer", async () => {
  const archived = await openArchived(lab, heartbeatMs, "standby");
  const { db, clusterId } = archived;
  using first = archived.agent;
  await report(first, archived, { stored: [run("0/1000000", "0/2000000")], storedLsn: "0/2000000" });
  const other = await openOperationLab(lab, "primary", heartbeatMs);
  using archiver = await other.connect();
  // As it is where a cluster has a server on either host.
  const hostOf = (name: string) => `(select id from host where name = '${name}')`;
  await lab.server.sql(
    "postgres",
    `update wal_archive set host_id = ${hostOf("primary")} where cluster_id = '${clusterId}'`,
  );
  const asks = listenTo(archiver);

  const physical = { walArchived: true };
  const { id } = await lab.client(BackupService).createBackup({
    cluster: "standby",
    repository: "standby",
    kind: BackupKind.FULL,
    physical,
  });
  const command = await first.next("command");
  const asksOfTaker = listenTo(first);
  first.accept(command);
  await db.until(id, OperationState.RUNNING);
  const awaited = async () => (await db.get(id)).progress?.work?.awaitedLsn;
  const tell = async (awaitedLsn: string) => {
    const { commandId, operationId, fence } = command;
    const awaitedTimeline = awaitedLsn === "" ? 0 : 1;
    const work = { phase: "waiting for WAL", doneBytes: 5n, totalBytes: 5n, awaitedLsn, awaitedTimeline };
    first.send({ case: "progress", value: { commandId, operationId, work, ...(fence ? { fence } : {}) } });
    await expect.poll(awaited).toBe(awaitedLsn);
  };
  /** None comes any more; one may be on its way. */
  const expectQuiet = async () => {
    await delay(500);
    const before = asks.length;
    await delay(quietMs);
    expect(asks).toHaveLength(before);
  };
  /** Positions that are asked for by the catalog, were that so; nothing is changed. */
  const askedIf = async (change: string) => {
    let listed: readonly AwaitedWal[] = [];
    await lab.catalog
      .transaction(async (tx) => {
        await tx.execute(change);
        listed = await listAwaitedWal(tx, other.identity.hostId);
        throw new Error("roll back");
      })
      .catch(() => undefined);
    return listed.map(({ lsn }) => lsn);
  };
  await tell("");
  expect(asks).toEqual([]);
  await tell("0/2000120");
  await expect.poll(() => asks.length).toBeGreaterThanOrEqual(2);
  expect(asks[0]).toMatchObject({ clusterId, systemIdentifier, timeline: 1, lsn: "0/2000120" });
  expect(await askedIf("select 1")).toEqual(["0/2000120"]);
  const next = "next_repository_id = repository_id, next_settings = settings, next_end_number = 1, next_time = now()";
  for (const change of [
    `update operation set state = 'CANCELLING' where id = '${id}'`,
    "update host set state = 'UNKNOWN' where name = 'standby'",
    `update wal_archive set next_host_id = ${hostOf("standby")}, ${next}`,
    `update wal_archive set host_id = ${hostOf("standby")}`,
  ])
    expect(await askedIf(change), change).toEqual([]);
  await tell("");
  await expectQuiet();
  await tell("0/2000120");
  const seen = asks.length;
  await expect.poll(() => asks.length).toBeGreaterThan(seen);

  // It ends as it is: what its progress said last is no wish any more.
  first.answer(command, { result: { case: "backupPhysical", value: physicalResult(physicalOf(command)) } });
  await db.until(id, OperationState.SUCCEEDED);
  expect(await awaited()).toBe("0/2000120");
  await expectQuiet();
  expect(asksOfTaker).toEqual([]);
});
