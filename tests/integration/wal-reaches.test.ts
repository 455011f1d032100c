// What archived WAL lets the control plane do: increments, windows, plans, a full backup after a gap; the agent played by the test.
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { WalProblemSchema } from "@coppice/proto/gen/coppice/agent/v1/verify_wal";
import { ClusterService } from "@coppice/proto/gen/coppice/control/v1/cluster";
import { BackupKind } from "@coppice/proto/gen/coppice/common/v1/backup_kind";
import { IncrementalMethod } from "@coppice/proto/gen/coppice/common/v1/base_backup_options";
import { BackupService } from "@coppice/proto/gen/coppice/control/v1/backup";
import { FindingService } from "@coppice/proto/gen/coppice/control/v1/finding";
import { RepositoryService } from "@coppice/proto/gen/coppice/control/v1/repository";
import { OperationService, OperationState } from "@coppice/proto/gen/coppice/control/v1/operation";
import { RestoreService } from "@coppice/proto/gen/coppice/control/v1/restore";
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
import { anchor, openArchived, reasonOf, report, run } from "../support/wal/told-archive.ts";

const heartbeatMs = 1000;
let lab: ControlPlaneLab;

beforeAll(async () => {
  lab = await openControlPlaneLab({ heartbeatMs });
});
afterAll(async () => {
  await lab[Symbol.asyncDispose]();
});

const archived = (name: string) => openArchived(lab, heartbeatMs, name);

describe.concurrent("what an agent tells of WAL", () => {
  test("a rebuild reads in the repository, so that the latest point is that of the archive and not of the backup", async ({
    expect,
  }) => {
    const db = await openOperationLab(lab, "burnt", heartbeatMs);
    using agent = await db.connect();
    await checkPlayed(lab, db, agent);
    const backup = await makePhysical(lab, db, agent, { walEmbedded: true });
    const { id } = await lab.client(RepositoryService).rebuildRepository({ repository: "burnt" });
    const command = await agent.next("command");
    const value = command.spec.case === "scanRepository" ? command.spec.value : undefined;
    const repositoryId = value?.repository?.repositoryId ?? "";
    const { id: clusterId } = await lab.client(ClusterService).getCluster({ cluster: "burnt" });
    expect(value?.knownServers).toContainEqual(
      expect.objectContaining({ clusterId, systemIdentifier, segmentBytes: 16_777_216n }),
    );
    const stored = [run("0/2000000", "0/5000000"), { ...run("0/5000000", "0/9000000"), timeline: 2 }];
    const histories = [{ timeline: 2, content: "1\t0/5000080\tpromoted\n" }];
    const anchors = [{ ...anchor(Date.now() + 60_000, "0/6000080"), timeline: 2 }];
    const wal = [{ clusterId, systemIdentifier, stored, histories, anchors }];
    agent.answer(command, { result: { case: "scanRepository", value: { knownBackups: 1, wal } } });
    await db.until(id, OperationState.SUCCEEDED);
    const physical = { host: "burnt", dataDirectory: "/srv/back", start: true };
    const { spec } = await lab
      .client(RestoreService)
      .createRestore({ validateOnly: true, restore: { cluster: "burnt", physical } });
    expect(spec.value).toMatchObject({
      chain: [backup],
      walRepository: repositoryId,
      serverTarget: { timeline: 2 },
      expectedEndLsn: "0/9000000",
      warnings: [],
    });
  });

  test("is found wanting while no backup leads into it, until one does", async ({ expect }) => {
    const place = await archived("unled");
    using agent = place.agent;
    await makePhysical(lab, place.db, agent, { walEmbedded: true });
    await report(agent, place, { stored: [run("0/5000000", "0/9000000")], storedLsn: "0/9000000" });
    const rules = async () => {
      const { findings } = await lab.client(FindingService).listFindings({});
      return findings.filter(({ subject }) => subject === place.clusterId).map(({ rule }) => rule);
    };
    await expect.poll(rules).toContain("wal-without-backup");
    const key = "00000001/0000000100000000/000000010000000000000006";
    const archivedWal = [{ codec: "zstd", objects: [{ key, sizeBytes: 10n, sha256: "a".repeat(64) }] }];
    const physical = { startLsn: "0/6000028", stopLsn: "0/6000120", archivedWal };
    await makePhysical(lab, place.db, agent, { walEmbedded: false, physical });
    await expect.poll(rules).not.toContain("wal-without-backup");
  });

  test("is what a WAL increment is made of, as long as none is missing after its parent", async ({ expect }) => {
    const place = await archived("increments");
    using agent = place.agent;
    await report(agent, place, { stored: [run("0/2000000", "0/4000000")], number: 1n });
    const full = await makePhysical(lab, place.db, agent, { walEmbedded: false });
    const request = { cluster: "increments", repository: "increments", kind: BackupKind.INCREMENTAL };
    const attempt = (physical: object = {}, more: object = {}) =>
      lab.client(BackupService).createBackup({
        ...request,
        physical: { method: IncrementalMethod.WAL, ...physical },
        ...more,
      });
    expect(await reasonOf(attempt({ walEmbedded: true }))).toBe("INVALID_FIELD");
    const { id } = await attempt();
    const command = await agent.next("command");
    expect(physicalOf(command)).toMatchObject({
      incremental: true,
      fullReason: "",
      parent: { backupId: full },
      options: { method: IncrementalMethod.WAL, walArchived: true, walEmbedded: false },
      walRepository: { repositoryId: place.repositoryId },
    });
    const value = physicalResult(physicalOf(command), {
      startLsn: "0/2000120",
      stopLsn: "0/2F00000",
      parentStopLsn: "0/2000120",
      restorePoint: "coppice_here",
      method: IncrementalMethod.WAL,
      tablespaces: [],
      backupManifestSha256: "",
    });
    const content = value.manifest?.content.value;
    if (content?.$typeName !== "coppice.repository.v1.PhysicalContent") throw new Error("it is no physical backup");
    delete content.base;
    delete content.backupManifest;
    agent.answer(command, { result: { case: "backupPhysical", value } });
    expect((await place.db.until(id, OperationState.SUCCEEDED)).result.value).toMatchObject({
      parent: full,
      method: IncrementalMethod.WAL,
      walBytes: 10n,
    });
    const backup = value.manifest?.backupId ?? "";
    expect((await lab.client(BackupService).getBackup({ backup })).physical).toMatchObject({
      method: IncrementalMethod.WAL,
      restorePoint: "coppice_here",
      walBytes: 10n,
    });
    const { spec } = await lab.client(RestoreService).createRestore({
      validateOnly: true,
      restore: {
        cluster: "increments",
        backup,
        physical: {
          host: "increments",
          dataDirectory: "/srv/back",
          start: true,
          target: { point: { case: "immediate", value: true } },
        },
      },
    });
    expect(spec.value).toMatchObject({
      chain: [full],
      serverTarget: { point: { case: "name", value: "coppice_here" }, timeline: 1 },
      expectedEndLsn: "0/2F00000",
    });
    expect(await reasonOf(lab.client(BackupService).deleteBackup({ backup: full, allowLast: true }))).toBe(
      "BACKUP_HAS_CHILDREN",
    );
    const next = async (physical?: object) => {
      const { spec: asked } = await attempt(physical, { validateOnly: true });
      if (asked.case !== "createPhysicalBackup") throw new Error("it is no physical backup");
      return { parent: asked.value.parent, fullReason: asked.value.fullReason };
    };
    expect(await next()).toEqual({ parent: backup, fullReason: "" });
    // One of blocks has nothing of it to go on from.
    expect(await next({ method: IncrementalMethod.NATIVE })).toEqual({ parent: full, fullReason: "" });
    await report(agent, place, { stored: [run("0/6000000", "0/7000000")], number: 2n });
    expect(await next()).toEqual({
      parent: "",
      fullReason: `the archive lacks WAL from 0/4000000 to 0/6000000, after the end of its parent ${backup}`,
    });
    const trouble = failureToDetail(new Failure("SLOT_INVALIDATED", "the slot is gone"));
    await report(agent, place, { trouble, number: 3n });
    expect(await reasonOf(attempt())).toBe("WAL_NOT_ARCHIVED");
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

  test("of a gap begins one full backup, says why, and none again for six hours, nor where none was ever taken", async ({
    expect,
  }) => {
    const place = await archived("gapped");
    using agent = place.agent;
    const { db } = place;
    const begun = async () => {
      const { operations } = await lab.client(OperationService).listOperations({ cluster: "gapped" });
      return operations.filter(({ principal }) => principal === "system");
    };
    const found = async () => {
      const { findings } = await lab.client(FindingService).listFindings({});
      return findings.filter(({ subjectName }) => subjectName === "gapped").map(({ rule }) => rule);
    };
    let number = 0n;
    // What follows from one report is done before the next one is taken.
    const tell = async (told: Parameters<typeof report>[2]) => {
      await report(agent, place, { ...told, number: ++number });
      await report(agent, place, { storedLsn: told.storedLsn ?? "", number: ++number });
    };
    await tell({ stored: [run("0/2000000", "0/3000000"), run("0/4000000", "0/5000000")], storedLsn: "0/3000000" });
    await makePhysical(lab, db, agent);
    // Stored before the one ahead of it: that is no gap.
    await tell({ storedLsn: "0/3000000" });
    await tell({ stored: [run("0/6000000", "0/6800000")], storedLsn: "0/3000000" });
    expect(await begun()).toEqual([]);
    expect(await found()).not.toContain("wal-gap");
    await report(agent, place, { storedLsn: "0/6800000", number: ++number });
    const command = await agent.next("command");
    agent.accept(command);
    expect(physicalOf(command)).toMatchObject({ incremental: false, options: { walArchived: true } });
    const [operation, ...others] = await begun();
    expect(others).toEqual([]);
    expect(operation?.spec.value).toMatchObject({
      reason: expect.stringMatching(/^WAL from 0\/5000000 to 0\/6000000 of timeline 1 is not archived: /) as string,
      repository: place.repositoryId,
    });
    expect(await found()).toContain("wal-gap");
    const failure = failureToDetail(new Failure("CLUSTER_UNREACHABLE", "it is gone"));
    agent.answer(command, { failure });
    await db.until(operation?.id ?? "", OperationState.FAILED);
    await tell({ stored: [run("0/6800000", "0/7000000")], storedLsn: "0/7000000" });
    expect(await begun()).toHaveLength(1);
    await makePhysical(lab, db, agent, { physical: { startLsn: "0/6000028", stopLsn: "0/6000120" } });
    expect(await found()).not.toContain("wal-gap");

    // Of a cluster that nobody has backed up nothing is lost.
    const never = await archived("never-backed-up");
    using other = never.agent;
    const stored = [run("0/2000000", "0/3000000"), run("0/5000000", "0/6000000")];
    await report(other, never, { stored, storedLsn: "0/6000000", number: 1n });
    await report(other, never, { storedLsn: "0/6000000", number: 2n });
    const { operations } = await lab.client(OperationService).listOperations({ cluster: "never-backed-up" });
    expect(operations.map(({ principal }) => principal)).not.toContain("system");
  });

  test("counts for nothing where a verification found it lost, also when it is told again, until one finds it sound", async ({
    expect,
  }) => {
    const place = await archived("lost");
    using agent = place.agent;
    const stored = [run("0/2000000", "0/8000000")];
    const clusters = lab.client(ClusterService);
    expect(await reasonOf(clusters.verifyWal({ cluster: "lost" }))).toBe("WAL_NOT_ARCHIVED");
    await report(agent, place, { stored, storedLsn: "0/8000000" });
    const verify = async (
      problems: MessageInitShape<typeof WalProblemSchema>[],
      failure?: { failure: ReturnType<typeof failureToDetail> },
    ) => {
      const { id } = await clusters.verifyWal({ cluster: "lost" });
      const command = await agent.next("command");
      if (command.spec.case !== "verifyWal") throw new Error("it is no verification");
      expect(command.spec.value).toMatchObject({ systemIdentifier, segmentBytes: 16_777_216n, expected: stored });
      const value = { objects: 6, bytes: 60n, plainBytes: 600n, records: 7n, problems };
      agent.answer(command, { result: { case: "verifyWal", value }, ...failure });
      return await place.db.until(id, failure ? OperationState.FAILED : OperationState.SUCCEEDED);
    };
    const lost = run("0/4000000", "0/5000000");
    const failed = await verify([{ key: "x", message: "it is damaged", run: lost }], {
      failure: failureToDetail(new Failure("CONTENT_UNREADABLE", "x is damaged")),
    });
    expect(failed.result).toMatchObject({
      case: "verifiedWal",
      value: {
        records: 7n,
        problems: [{ message: "it is damaged", stretch: { startLsn: "0/4000000", endLsn: "0/5000000" } }],
      },
    });
    const extents = async () =>
      (await clusters.getWalArchive({ cluster: "lost" })).extents.map(({ startLsn, endLsn }) => [startLsn, endLsn]);
    const parts = [
      ["0/2000000", "0/4000000"],
      ["0/5000000", "0/8000000"],
    ];
    expect(await extents()).toEqual(parts);
    await report(agent, place, { stored, storedLsn: "0/8000000", number: 2n });
    expect(await extents()).toEqual(parts);
    await makePhysical(lab, place.db, agent, { walEmbedded: false });
    const { windows } = await clusters.getRecoveryWindow({ cluster: "lost" });
    expect(windows.map(({ endLsn }) => endLsn)).toEqual(["0/4000000"]);
    expect((await verify([])).result).toMatchObject({ case: "verifiedWal", value: { problems: [] } });
    expect(await extents()).toEqual([["0/2000000", "0/8000000"]]);
  });
});
