// Archiving of WAL as the control plane sees it: desired state, reports, windows and plans, the agent played by the test.
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { WalReport } from "@coppice/proto/gen/coppice/agent/v1/wal_archive";
import { WalMode } from "@coppice/proto/gen/coppice/common/v1/wal_archive";
import { ClusterService } from "@coppice/proto/gen/coppice/control/v1/cluster";
import { BackupKind } from "@coppice/proto/gen/coppice/common/v1/backup_kind";
import { BackupService } from "@coppice/proto/gen/coppice/control/v1/backup";
import { RepositoryService } from "@coppice/proto/gen/coppice/control/v1/repository";
import { RestoreService } from "@coppice/proto/gen/coppice/control/v1/restore";
import { failureFromConnectError } from "@coppice/proto/kit/connect-failure";
import { Failure, failureToDetail } from "@coppice/proto/kit/failure";
import { afterAll, beforeAll, describe, test } from "vitest";
import { type ControlPlaneLab, openControlPlaneLab } from "../support/control-plane-lab.ts";
import { openOperationLab, type OperationLab } from "../support/operation-lab.ts";
import { checkPlayed, makePhysical, systemIdentifier } from "../support/physical/played-backups.ts";
import type { SimulatedAgent } from "../support/simulated-agent.ts";

const heartbeatMs = 1000;
let lab: ControlPlaneLab;

beforeAll(async () => {
  lab = await openControlPlaneLab({ heartbeatMs });
});
afterAll(async () => {
  await lab[Symbol.asyncDispose]();
});

const setUp = (cluster: string, more: object = {}) =>
  lab.client(ClusterService).updateWalArchive({ cluster, repository: cluster, ...more });

async function reasonOf(work: Promise<unknown>) {
  return await work.then(
    () => undefined,
    (error: unknown) => failureFromConnectError(error).reason,
  );
}

interface Archived {
  readonly db: OperationLab;
  readonly clusterId: string;
  readonly repositoryId: string;
}

/** A checked cluster whose WAL is to be archived. */
async function archived(name: string): Promise<Archived & { agent: SimulatedAgent; revision: bigint }> {
  const db = await openOperationLab(lab, name, heartbeatMs);
  const agent = await db.connect();
  await checkPlayed(lab, db, agent);
  const { cluster: clusterId, repository: repositoryId } = await setUp(name);
  const { revision } = await agent.next("desiredState");
  return { db, agent, clusterId, repositoryId, revision };
}

/** Tells, and waits until it is stored. */
async function report(
  agent: SimulatedAgent,
  { clusterId, repositoryId }: Archived,
  value: Partial<Omit<WalReport, "$typeName" | "$unknown">>,
): Promise<void> {
  const { number = 1n } = value;
  const common = { clusterId, repositoryId, systemIdentifier, timeline: 1, segmentBytes: 16_777_216n, number };
  agent.send({ case: "walReport", value: { ...common, ...value } as WalReport });
  for (;;) {
    const ack = await agent.next("walReportAck");
    if (ack.number === number && ack.clusterId === clusterId) return;
  }
}

const run = (startLsn: string, endLsn: string) => ({ timeline: 1, startLsn, endLsn }) as WalReport["stored"][number];
const anchor = (ms: number, lsn: string) =>
  ({ timeline: 1, time: timestampFromMs(ms), lsn }) as WalReport["anchors"][number];

describe.concurrent("what is to be archived", () => {
  test("goes to the agent with its secrets, again after it was lost, and never twice", async ({ expect }) => {
    const db = await openOperationLab(lab, "desired", heartbeatMs);
    using first = await db.connect();
    expect(await reasonOf(setUp("desired"))).toBe("CLUSTER_NOT_CHECKED");
    await checkPlayed(lab, db, first);
    expect(await reasonOf(setUp("desired", { settings: { mode: WalMode.PUSH } }))).toBe("NOT_SUPPORTED");
    const preview = await setUp("desired", { validateOnly: true });
    expect(preview).toMatchObject({ repositoryName: "desired", systemIdentifier, etag: "" });
    expect((await lab.client(ClusterService).getWalArchive({ cluster: "desired" })).repository).toBe("");
    const answer = await setUp("desired", { requestId: "once" });
    expect((await setUp("desired", { requestId: "once" })).etag).toBe(answer.etag);
    expect(await reasonOf(setUp("desired", { requestId: "once", disable: true, repository: "" }))).toBe(
      "REQUEST_ID_REUSED",
    );
    const state = await first.next("desiredState");
    expect(state).toMatchObject({
      last: true,
      entries: [
        {
          id: answer.cluster,
          secrets: [{ value: "password of desired" }],
          desired: { case: "walArchive", value: { clusterName: "desired", settings: { mode: WalMode.STREAM } } },
        },
      ],
    });
    first.cut();
    using second = await db.connect({ desiredRevision: state.revision - 1n });
    expect((await second.next("desiredState")).revision).toBe(state.revision);
    second.cut();
    // One that has it is told of what comes later only.
    using third = await db.connect({ desiredRevision: state.revision });
    await lab.client(ClusterService).updateCluster({
      cluster: "desired",
      password: "another",
      updateMask: { paths: ["password"] },
    });
    const later = await third.next("desiredState");
    expect(later.revision).toBe(state.revision + 1n);
    expect(later.entries[0]?.secrets.map(({ value }) => value)).toEqual(["another"]);
    await setUp("desired", { disable: true, repository: "" });
    expect((await third.next("desiredState")).entries).toEqual([]);
  });

  test("is newer for an agent that has seen a later catalog", async ({ expect }) => {
    const db = await openOperationLab(lab, "ahead", heartbeatMs);
    using agent = await db.connect({ desiredRevision: 41n });
    await checkPlayed(lab, db, agent);
    await setUp("ahead");
    expect((await agent.next("desiredState")).revision).toBe(42n);
  });

  test("is refused where the agent does not archive", async ({ expect }) => {
    const db = await openOperationLab(lab, "older", heartbeatMs);
    using agent = await db.connect({ capabilities: ["checkCluster"] });
    await checkPlayed(lab, db, agent);
    expect(await reasonOf(setUp("older"))).toBe("CAPABILITY_MISSING");
  });
});

describe.concurrent("what an agent tells of WAL", () => {
  test("becomes runs without a hole, however often it is told", async ({ expect }) => {
    const place = await archived("told");
    using agent = place.agent;
    const first = { stored: [run("0/2000000", "0/3000000"), run("0/3000000", "0/4000000")], storedLsn: "0/4000000" };
    await report(agent, place, { ...first, serverLsn: "0/4000100", number: 1n });
    await report(agent, place, { ...first, serverLsn: "0/4000100", number: 2n });
    await report(agent, place, { stored: [run("0/6000000", "0/7000000")], number: 3n });
    const archive = await lab.client(ClusterService).getWalArchive({ cluster: "told" });
    expect(archive.extents.map(({ startLsn, endLsn }) => [startLsn, endLsn])).toEqual([
      ["0/2000000", "0/4000000"],
      ["0/6000000", "0/7000000"],
    ]);
    await report(agent, place, { stored: [run("0/4000000", "0/6000000")], storedLsn: "0/7000000", number: 4n });
    const joined = await lab.client(ClusterService).getWalArchive({ cluster: "told" });
    expect(joined.extents.map(({ startLsn, endLsn }) => [startLsn, endLsn])).toEqual([["0/2000000", "0/7000000"]]);
    expect(joined.storedLsn).toBe("0/7000000");
    expect(await reasonOf(lab.client(RepositoryService).deleteRepository({ repository: "told" }))).toBe(
      "REPOSITORY_IN_USE",
    );
  });

  test("of another server, or that cannot be read, is taken off its hands and counts for nothing", async ({
    expect,
  }) => {
    const place = await archived("strange");
    using agent = place.agent;
    const stored = [run("0/2000000", "0/3000000")];
    await report(agent, place, { stored, systemIdentifier: "7380000000000000009", number: 1n });
    await report(agent, place, { stored: [run("0/3000000", "0/2000000")], number: 2n });
    await report(agent, place, { stored, clusterId: place.clusterId, repositoryId: "rep_nobody", number: 3n });
    await report(agent, place, { stored, histories: [{ timeline: 2, content: "nonsense" }] as never, number: 4n });
    expect((await lab.client(ClusterService).getWalArchive({ cluster: "strange" })).extents).toEqual([]);
  });

  test("takes the WAL of backups that ask for no other place, unless it is in trouble", async ({ expect }) => {
    const place = await archived("default");
    using agent = place.agent;
    const create = async (physical?: object) => {
      const request = { cluster: "default", repository: "default", kind: BackupKind.FULL, validateOnly: true };
      const { spec } = await lab.client(BackupService).createBackup({ ...request, ...(physical ? { physical } : {}) });
      if (spec.case !== "createPhysicalBackup") throw new Error("it is no physical backup");
      const { options, walRepository } = spec.value;
      return { walArchived: options?.walArchived, walEmbedded: options?.walEmbedded, walRepository };
    };
    const inArchive = { walArchived: true, walEmbedded: false, walRepository: place.repositoryId };
    const inBackup = { walArchived: false, walEmbedded: true, walRepository: "" };
    expect(await create()).toEqual(inBackup);
    expect(await create({ walArchived: true })).toEqual(inArchive);
    await report(agent, place, {});
    expect(await create()).toEqual(inArchive);
    expect(await create({ walEmbedded: true })).toEqual(inBackup);
    // Its WAL was seen there, whatever is reported of the archive, or not yet.
    const backup = await makePhysical(lab, place.db, agent, { walEmbedded: false });
    const target = { point: { case: "immediate" as const, value: true } };
    const { spec } = await lab.client(RestoreService).createRestore({
      validateOnly: true,
      restore: { cluster: "default", physical: { host: "default", dataDirectory: "/srv/back", target } },
    });
    expect(spec.value).toMatchObject({
      chain: [backup],
      walRepository: place.repositoryId,
      expectedEndLsn: "0/2000120",
    });
    const trouble = failureToDetail(new Failure("SLOT_INVALIDATED", "the slot is gone"));
    await report(agent, place, { trouble, number: 2n });
    expect(await create()).toEqual(inBackup);
    expect(await reasonOf(create({ walArchived: true }))).toBe("WAL_NOT_ARCHIVED");
    // What is the archive's stays there.
    await lab.client(BackupService).deleteBackup({ backup, allowLast: true });
    const { spec: deletion } = await agent.next("command");
    if (deletion.case !== "deleteBackup") throw new Error("it is no deletion");
    const own = ["base.tar", "16400.tar", "backup_manifest"].map((name) => `data/${name}.zst.0000`);
    expect(deletion.value.keys).toEqual([...own, "RECOVER.txt"]);
  });

  test("makes a window, and a plan to a second within it", async ({ expect }) => {
    const place = await archived("window");
    using agent = place.agent;
    const { db } = place;
    // A backup that needs archived WAL: it lies where the command says.
    const backup = await makePhysical(lab, db, agent, { walEmbedded: false });
    const now = Date.now();
    await report(agent, place, {
      stored: [run("0/2000000", "0/8000000")],
      storedLsn: "0/8000000",
      anchors: [
        anchor(now + 10_000, "0/3000000"),
        anchor(now + 20_000, "0/5000000"),
        anchor(now + 30_000, "0/7000000"),
      ],
    });
    const cluster = await lab.client(ClusterService).getCluster({ cluster: "window" });
    expect(cluster.recoveryWindow).toMatchObject({ timeline: 1, startLsn: "0/2000120", endLsn: "0/8000000", gaps: [] });
    const { windows } = await lab.client(ClusterService).getRecoveryWindow({ cluster: "window" });
    expect(windows).toEqual([cluster.recoveryWindow]);
    const archive = await lab.client(ClusterService).getWalArchive({ cluster: "window" });
    expect(archive.storedTime).toEqual(timestampFromMs(now + 30_000));
    const restoreTo = (ms: number) =>
      lab.client(RestoreService).createRestore({
        validateOnly: true,
        restore: {
          cluster: "window",
          physical: {
            host: "window",
            dataDirectory: "/srv/back",
            target: { point: { case: "time", value: timestampFromMs(ms) } },
          },
        },
      });
    const { spec } = await restoreTo(now + 15_000);
    expect(spec.value).toMatchObject({ chain: [backup], walRepository: place.repositoryId });
    expect(await reasonOf(restoreTo(now + 3_600_000))).toBe("RECOVERY_TARGET_UNREACHABLE");
    expect(await reasonOf(restoreTo(now - 3_600_000))).toBe("RECOVERY_TARGET_UNREACHABLE");
  });

  test("of a session that was replaced changes nothing", async ({ expect }) => {
    const place = await archived("replaced");
    using first = place.agent;
    const { bootId } = first;
    using second = await place.db.connect({ bootId });
    first.send({
      case: "walReport",
      value: {
        clusterId: place.clusterId,
        repositoryId: place.repositoryId,
        systemIdentifier,
        number: 1n,
        stored: [run("0/2000000", "0/3000000")],
      },
    });
    await first.status;
    await report(second, place, { stored: [run("0/6000000", "0/7000000")], number: 2n });
    const archive = await lab.client(ClusterService).getWalArchive({ cluster: "replaced" });
    expect(archive.extents.map(({ startLsn }) => startLsn)).toEqual(["0/6000000"]);
  });
});
