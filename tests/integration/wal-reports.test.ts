// Archiving of WAL as the control plane sees it: desired state and reports, the agent played by the test.
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { WalReport } from "@coppice/proto/gen/coppice/agent/v1/wal_archive";
import { WalMode } from "@coppice/proto/gen/coppice/common/v1/wal_archive";
import { ClusterService } from "@coppice/proto/gen/coppice/control/v1/cluster";
import { BackupKind } from "@coppice/proto/gen/coppice/common/v1/backup_kind";
import { BackupService } from "@coppice/proto/gen/coppice/control/v1/backup";
import { FindingService } from "@coppice/proto/gen/coppice/control/v1/finding";
import { RepositoryService } from "@coppice/proto/gen/coppice/control/v1/repository";
import { RestoreService } from "@coppice/proto/gen/coppice/control/v1/restore";
import { Failure, failureToDetail } from "@coppice/proto/kit/failure";
import { afterAll, beforeAll, describe, test } from "vitest";
import { findHost } from "../../control-plane/src/catalog/host.ts";
import { noteClusterTried } from "../../control-plane/src/catalog/outcome/reachability.ts";
import { listAnchors } from "../../control-plane/src/catalog/physical/wal-knowledge.ts";
import { putWalArchive } from "../../control-plane/src/catalog/physical/wal-owner.ts";
import { noteStrayArchive } from "../../control-plane/src/catalog/physical/told/stray-archive.ts";
import { type ControlPlaneLab, openControlPlaneLab } from "../support/control-plane-lab.ts";
import { openOperationLab } from "../support/operation-lab.ts";
import { checkPlayed, makePhysical, systemIdentifier } from "../support/physical/played-backups.ts";
import { anchor, openArchived, reasonOf, report, run, setUp } from "../support/wal/told-archive.ts";

const heartbeatMs = 1000;
let lab: ControlPlaneLab;

beforeAll(async () => {
  lab = await openControlPlaneLab({ heartbeatMs });
});
afterAll(async () => {
  await lab[Symbol.asyncDispose]();
});

const archived = (name: string) => openArchived(lab, heartbeatMs, name);

describe.concurrent("what is to be archived", () => {
  test("goes to the agent with its secrets, again after it was lost, and never twice", async ({ expect }) => {
    const db = await openOperationLab(lab, "desired", heartbeatMs);
    using first = await db.connect();
    expect(await reasonOf(setUp(lab, "desired"))).toBe("CLUSTER_NOT_CHECKED");
    await checkPlayed(lab, db, first);
    expect(await reasonOf(setUp(lab, "desired", { settings: { mode: WalMode.PUSH } }))).toBe("CAPABILITY_MISSING");
    const preview = await setUp(lab, "desired", { validateOnly: true });
    expect(preview).toMatchObject({ repositoryName: "desired", systemIdentifier, etag: "" });
    expect((await lab.client(ClusterService).getWalArchive({ cluster: "desired" })).repository).toBe("");
    const answer = await setUp(lab, "desired", { requestId: "once" });
    expect((await setUp(lab, "desired", { requestId: "once" })).etag).toBe(answer.etag);
    expect(await reasonOf(setUp(lab, "desired", { requestId: "once", disable: true, repository: "" }))).toBe(
      "REQUEST_ID_REUSED",
    );
    const state = await first.next("desiredState");
    expect(state).toMatchObject({
      last: true,
      entries: [
        {
          id: answer.cluster,
          secrets: [{ value: "password of desired" }],
          desired: {
            case: "walArchive",
            value: { clusterName: "desired", settings: { mode: WalMode.STREAM }, nothingArchived: true },
          },
        },
      ],
    });
    first.cut();
    using second = await db.connect({ desiredRevision: state.revision - 1n });
    expect((await second.next("desiredState")).revision).toBe(state.revision);
    second.cut();
    // One that has it is told of what comes later only.
    using third = await db.connect({ desiredRevision: state.revision });
    const places = { db, clusterId: answer.cluster, repositoryId: answer.repository };
    await report(third, places, { systemIdentifier, stored: [run("0/2000000", "0/3000000")], storedLsn: "0/3000000" });
    await lab.client(ClusterService).updateCluster({
      cluster: "desired",
      password: "another",
      updateMask: { paths: ["password"] },
    });
    const later = await third.next("desiredState");
    expect(later.revision).toBe(state.revision + 1n);
    expect(later.entries).toMatchObject([
      { secrets: [{ value: "another" }], desired: { value: { nothingArchived: false } } },
    ]);
    await setUp(lab, "desired", { disable: true, repository: "" });
    const { revision } = state;
    const last = await third.next("desiredState");
    expect(last).toMatchObject({ entries: [], ended: [{ id: answer.cluster, revision: revision + 2n }] });
  });

  test("is handed over by archive_command where the agent takes it, and what the server says of that is an answer", async ({
    expect,
  }) => {
    const db = await openOperationLab(lab, "pushed", heartbeatMs);
    using agent = await db.connect({ capabilities: ["checkCluster", "walArchive", "walPush"] });
    await checkPlayed(lab, db, agent);
    const { cluster: clusterId, repository: repositoryId } = await setUp(lab, "pushed", { settings: { slot: "own" } });
    await agent.next("desiredState");
    const archiver = { mode: "on", isCommandSet: true, waitingSegments: 3n, failedCount: 0n };
    const value = { clusterId, repositoryId, archiver } as Partial<WalReport>;
    const pushed = await setUp(lab, "pushed", { settings: { mode: WalMode.PUSH } });
    // The slot of before keeps its name, so that it can be dropped.
    expect(pushed).toMatchObject({ settings: { mode: WalMode.PUSH, slot: "own" } });
    expect(pushed.archiver).toBeUndefined();
    await agent.next("desiredState");
    await report(agent, { db, clusterId, repositoryId }, value);
    const get = () => lab.client(ClusterService).getWalArchive({ cluster: "pushed" });
    expect((await get()).archiver).toMatchObject(archiver);
    // It is no answer to what is asked for later.
    await setUp(lab, "pushed", { settings: { mode: WalMode.PUSH, compressionLevel: 9 } });
    expect((await get()).archiver).toBeUndefined();
  });

  test("is newer for an agent that has seen a later catalog", async ({ expect }) => {
    const db = await openOperationLab(lab, "ahead", heartbeatMs);
    using agent = await db.connect({ desiredRevision: 41n });
    await checkPlayed(lab, db, agent);
    await setUp(lab, "ahead");
    expect((await agent.next("desiredState")).revision).toBe(42n);
  });

  test("moves to another host only where that reaches the repository, and not while operations are under way", async ({
    expect,
  }) => {
    using _agent = (await archived("bound")).agent;
    await lab.enrol("elsewhere");
    const clusters = lab.client(ClusterService);
    const move = (host: string) => clusters.updateCluster({ cluster: "bound", host, updateMask: { paths: ["host"] } });
    expect(await reasonOf(move("elsewhere"))).toBe("REPOSITORY_WRONG_HOST");
    expect(await reasonOf(move("nowhere"))).toBe("HOST_NOT_FOUND");
    await clusters.checkCluster({ cluster: "bound" });
    expect(await reasonOf(move("elsewhere"))).toBe("CLUSTER_IN_USE");
    expect(await clusters.getCluster({ cluster: "bound" })).toMatchObject({ instances: [{ hostName: "bound" }] });
    const { ownership } = await clusters.getWalArchive({ cluster: "bound" });
    expect(ownership).toMatchObject({ nextHost: "", formerHostName: "" });
  });

  test("is ended with what another agent archives by since, which is not left over", async ({ expect }) => {
    const { agent: former, db, clusterId, repositoryId, revision } = await archived("parting");
    const slot = `coppice_${clusterId.toLowerCase()}`;
    const leftover = { slot, trouble: failureToDetail(new Failure("SLOT_IN_USE", "it has a reader")) };
    const left = async () => {
      const { findings } = await lab.client(FindingService).listFindings({});
      return findings.filter((one) => one.rule === "wal-leftover" && one.subject === clusterId).length;
    };
    former.cut();
    await setUp(lab, "parting", { disable: true, repository: "" });
    using away = await db.connect({ desiredRevision: revision });
    const alone = await away.next("desiredState");
    expect(alone.ended).toMatchObject([{ id: clusterId, revision: revision + 1n }]);
    expect(alone.ended[0]?.successor).toBeUndefined();
    away.send({ case: "walReport", value: { clusterId, systemIdentifier, leftover } as WalReport });
    await expect.poll(left, { timeout: 30_000 }).toBe(1);
    away.cut();
    await lab.enrol("heir");
    const heir = await findHost(lab.catalog.db, "heir");
    const wanted = { clusterId, hostId: heir?.id ?? "", repositoryId, systemIdentifier, settings: {} };
    await lab.catalog.transaction((tx) => putWalArchive(tx, wanted, new Date()));
    expect(await left()).toBe(0);
    using back = await db.connect({ desiredRevision: revision });
    expect((await back.next("desiredState")).ended).toMatchObject([{ successor: { systemIdentifier, slot } }]);
  });

  test("is ended for good only when somebody says so, also where the catalog does not know of it", async ({
    expect,
  }) => {
    const place = await archived("kept");
    const { clusterId, revision } = place;
    using agent = place.agent;
    // Archived by this agent for a catalog that is lost.
    const lost = { clusterId: "cls_00000000000000000000000009", clusterName: "crm" };
    const host = await findHost(lab.catalog.db, "kept");
    const told = { hostId: host?.id ?? "", heldRevision: revision, ...lost };
    const start = Date.now() - 60_000;
    for (const ms of [0, 20_000, 60_000]) await noteStrayArchive(lab.catalog.db, told, new Date(start + ms));
    await report(agent, { ...place, clusterId: lost.clusterId }, { clusterName: "crm" });
    const strays = async () => {
      const { findings } = await lab.client(FindingService).listFindings({});
      return findings.filter(({ rule }) => rule === "wal-stray").map(({ subjectName }) => subjectName);
    };
    expect(await strays()).toEqual(["crm"]);
    expect(await reasonOf(setUp(lab, "crm", { repository: "kept" }))).toBe("CLUSTER_NOT_FOUND");
    await setUp(lab, "crm", { disable: true, repository: "" });
    const state = await agent.next("desiredState");
    expect(state).toMatchObject({ entries: [{ id: clusterId }], ended: [{ id: lost.clusterId }] });
    expect(await strays()).toEqual([]);
    await lab.client(ClusterService).deleteCluster({ cluster: "kept" });
    const last = await agent.next("desiredState");
    expect(last.entries).toEqual([]);
    expect(last.ended.map(({ id }) => id)).toEqual([lost.clusterId, clusterId]);
    expect(last.ended[1]?.revision).toBe(last.revision);
  });

  test("is refused where the agent does not archive", async ({ expect }) => {
    const db = await openOperationLab(lab, "older", heartbeatMs);
    using agent = await db.connect({ capabilities: ["checkCluster"] });
    await checkPlayed(lab, db, agent);
    expect(await reasonOf(setUp(lab, "older"))).toBe("CAPABILITY_MISSING");
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

  test("is known of by few times once it is old: the first of ten minutes, and the last of a timeline", async ({
    expect,
  }) => {
    const place = await archived("old");
    using agent = place.agent;
    const { clusterId } = place;
    const begin = Math.floor(Date.now() / 600_000) * 600_000 - 30 * 24 * 3_600_000;
    const minutes = [0, 3, 10, 11, 12, 13];
    const anchors = minutes.map((minute, index) => anchor(begin + minute * 60_000, `0/${3 + index}000000`));
    const next = { ...anchor(begin + 25 * 60_000, "0/9000000"), timeline: 2 };
    await report(agent, place, { anchors: [...anchors, next], number: 1n });
    await report(agent, place, { number: 2n });
    const left = await listAnchors(lab.catalog.db, { clusterId, systemIdentifier });
    const leftMinutes = left.map(({ timeline, timeUs }) => [timeline, (Number(timeUs / 1000n) - begin) / 60_000]);
    expect(leftMinutes).toEqual([
      [1, 0],
      [1, 10],
      [1, 13],
      [2, 25],
    ]);
  });

  test("says how far behind it is, of its slot and its speed; behind the header of an empty page nothing is", async ({
    expect,
  }) => {
    const place = await archived("measured");
    using agent = place.agent;
    const get = () => lab.client(ClusterService).getWalArchive({ cluster: "measured" });
    const now = Date.now();
    const slot = {
      name: "coppice_measured",
      exists: true,
      active: true,
      restartLsn: "0/3000000",
      walStatus: "reserved",
    };
    const stored = [run("0/2000000", "0/3000000")];
    const isReachable = async () => (await lab.client(ClusterService).getCluster({ cluster: "measured" })).reachable;
    await report(agent, place, { serverTime: timestampFromMs(now + 30_000), number: 9n });
    await noteClusterTried(lab.catalog.db, { clusterId: place.clusterId }, "connection refused");
    // What was on its way is no answer, whatever the server's clock says, nor is it with what stands in the way.
    const trouble = failureToDetail(new Failure("CLUSTER_UNREACHABLE", "connection refused"));
    const later = timestampFromMs(now + 60_000);
    await report(agent, place, { serverTime: timestampFromMs(now + 40_000), number: 10n });
    await report(agent, place, { serverTime: later, trouble, number: 11n });
    await report(agent, place, { serverTime: later, number: 12n });
    expect(await isReachable()).toBe(false);
    await report(agent, place, { serverTime: timestampFromMs(now + 70_000), number: 13n });
    expect(await isReachable()).toBe(true);
    await report(agent, place, {
      stored,
      storedLsn: "0/3000000",
      serverLsn: "0/3000028",
      serverTime: timestampFromMs(now),
      anchors: [anchor(now - 20_000, "0/2800000"), anchor(now, "0/3000028")],
      slot: { ...slot, keptBytes: 40n, safeWalBytes: 1000n } as never,
      writtenBytesPerSecond: 7n,
      number: 1n,
    });
    const idle = await get();
    expect(idle).toMatchObject({ lagBytes: 0n, lagSeconds: 0, storedTime: timestampFromMs(now), gaps: [] });
    expect(idle).toMatchObject({ slot: { ...slot, keptBytes: 40n, safeWalBytes: 1000n }, writtenBytesPerSecond: 7n });
    expect(idle.storedBytesPerSecond).toBeUndefined();
    await report(agent, place, {
      stored: [run("0/4000000", "0/5000000")],
      storedLsn: "0/3000000",
      serverLsn: "0/5000000",
      serverTime: timestampFromMs(now + 30_000),
      number: 2n,
    });
    const behind = await get();
    expect(behind).toMatchObject({ lagBytes: 0x2000000n, lagSeconds: 30 });
    expect(behind.gaps).toMatchObject([{ timeline: 1, startLsn: "0/3000000", endLsn: "0/4000000" }]);
    expect(behind.slot).toBeUndefined();
    // Across a promotion.
    await report(agent, place, {
      timeline: 2,
      stored: [{ ...run("0/7000000", "0/9000000"), timeline: 2 }],
      histories: [{ timeline: 2, content: "1\t0/7000080\tpromoted\n" }] as never,
      storedLsn: "0/9000000",
      number: 3n,
    });
    expect((await get()).gaps).toMatchObject([
      { timeline: 1, startLsn: "0/3000000", endLsn: "0/4000000" },
      { timeline: 1, startLsn: "0/5000000", endLsn: "0/7000000" },
    ]);
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

  test("of a session that was replaced changes nothing", async ({ expect }) => {
    const place = await archived("replaced");
    using first = place.agent;
    const { bootId } = first;
    using second = await place.db.connect({ bootId });
    // It is let in before it has taken the other's place: then it has, for it was heard.
    await report(second, place, { stored: [run("0/6000000", "0/7000000")], number: 2n });
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
    const archive = await lab.client(ClusterService).getWalArchive({ cluster: "replaced" });
    expect(archive.extents.map(({ startLsn }) => startLsn)).toEqual(["0/6000000"]);
  });
});
