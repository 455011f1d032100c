// What a verification found to be lost of archived WAL, and an archive that refuses its server, mean for backups; the agent
// is played by the test.
import { create } from "@bufbuild/protobuf";
import { timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { WalReportSchema } from "@coppice/proto/gen/coppice/agent/v1/wal_archive";
import { BackupKind } from "@coppice/proto/gen/coppice/common/v1/backup_kind";
import { IncrementalMethod } from "@coppice/proto/gen/coppice/common/v1/base_backup_options";
import { BackupService } from "@coppice/proto/gen/coppice/control/v1/backup";
import { ClusterService } from "@coppice/proto/gen/coppice/control/v1/cluster";
import { FindingService } from "@coppice/proto/gen/coppice/control/v1/finding";
import { OperationState } from "@coppice/proto/gen/coppice/control/v1/operation";
import { RepositoryService } from "@coppice/proto/gen/coppice/control/v1/repository";
import { Failure, failureToDetail } from "@coppice/proto/kit/failure";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type ControlPlaneLab, openControlPlaneLab } from "../support/control-plane-lab.ts";
import { makePhysical, physicalOf, systemIdentifier } from "../support/physical/played-backups.ts";
import { anchor, openArchived, reasonOf, report, run, setUp } from "../support/wal/told-archive.ts";

const heartbeatMs = 1000;
let lab: ControlPlaneLab;
beforeAll(async () => {
  lab = await openControlPlaneLab({ heartbeatMs });
});
afterAll(async () => {
  await lab[Symbol.asyncDispose]();
});

async function open(name: string) {
  const place = await openArchived(lab, heartbeatMs, name);
  const { agent } = place;
  let number = 0n;
  return {
    ...place,
    tell: (told: Parameters<typeof report>[2]) => report(agent, place, { ...told, number: ++number }),
    /** A verification that finds these stretches lost. */
    async verify(...lost: ReturnType<typeof run>[]) {
      const { id } = await lab.client(ClusterService).verifyWal({ cluster: name });
      const command = await agent.next("command");
      const problems = lost.map((one) => ({ key: "x", message: "it is damaged", run: one }));
      const value = { objects: 6, bytes: 60n, plainBytes: 600n, records: 7n, problems };
      const failure = lost.length > 0 && {
        failure: failureToDetail(new Failure("CONTENT_UNREADABLE", "x is damaged")),
      };
      agent.answer(command, { result: { case: "verifyWal", value }, ...failure });
      await place.db.until(id, failure ? OperationState.FAILED : OperationState.SUCCEEDED);
    },
    async found() {
      const { findings } = await lab.client(FindingService).listFindings({});
      return findings.filter(({ subjectName }) => subjectName === name).map(({ rule }) => rule);
    },
    async lastGood() {
      const { lastGoodPhysical } = await lab.client(ClusterService).getCluster({ cluster: name });
      return lastGoodPhysical?.backup;
    },
    /** What an incremental would be. */
    async next(method: IncrementalMethod) {
      const { spec } = await lab.client(BackupService).createBackup({
        cluster: name,
        repository: name,
        kind: BackupKind.INCREMENTAL,
        physical: { method },
        validateOnly: true,
      });
      if (spec.case !== "createPhysicalBackup") throw new Error("it is no physical backup");
      return [spec.value.parent, spec.value.fullReason];
    },
  };
}

test("a backup whose own WAL is lost is no good one: that is found, a full one is begun, and nothing is replayed from it", async () => {
  const place = await open("rotten");
  using agent = place.agent;
  await place.tell({ stored: [run("0/2000000", "0/8000000")], storedLsn: "0/8000000" });
  const full = await makePhysical(lab, place.db, agent, { walEmbedded: false });
  expect(await place.lastGood()).toBe(full);
  const { NATIVE, WAL } = IncrementalMethod;
  expect(await place.next(WAL)).toEqual([full, ""]);
  expect(await place.found()).toEqual([]);

  await place.verify(run("0/5000000", "0/6000000"));
  expect(await place.found()).toEqual(["wal-gap", "wal-damaged"]);
  expect(await place.lastGood()).toBe(full);
  const missing = "the archive lacks WAL from 0/5000000 to 0/6000000, after the end of its parent";
  expect(await place.next(WAL)).toEqual(["", `${missing} ${full}`]);
  expect(await place.next(NATIVE)).toEqual([full, ""]);

  await place.verify(run("0/2000000", "0/3000000"));
  expect(await place.lastGood()).toBeUndefined();
  expect(await place.found()).toEqual(expect.arrayContaining(["wal-gap", "wal-damaged", "no-good-backup"]));
  expect(await place.next(WAL)).toEqual(["", expect.stringContaining(`has lost WAL that ${full} needs`)]);
  // Its blocks are there.
  expect(await place.next(NATIVE)).toEqual([full, ""]);
  await place.tell({ storedLsn: "0/8000000" });
  const command = await agent.next("command");
  agent.accept(command);
  expect(physicalOf(command).incremental).toBe(false);
  agent.answer(command, { failure: failureToDetail(new Failure("CLUSTER_UNREACHABLE", "it is gone")) });

  // Also what is lost at the very end, before anything is stored behind it.
  await place.verify(run("0/7000000", "0/8000000"));
  expect(await place.lastGood()).toBe(full);
  expect(await place.next(WAL)).toEqual(["", expect.stringContaining("from 0/7000000 to 0/8000000")]);
  expect(await place.found()).toEqual(expect.arrayContaining(["wal-gap", "wal-damaged"]));
  await makePhysical(lab, place.db, agent, { physical: { startLsn: "0/8000028", stopLsn: "0/8000120" } });
  expect(await place.found()).toEqual(["wal-damaged"]);

  await place.verify();
  expect(await place.found()).toEqual([]);
});

test("while an archive refuses the server, nothing builds on what was backed up before", async () => {
  const place = await open("refused");
  using agent = place.agent;
  await place.tell({ stored: [run("0/2000000", "0/8000000")], storedLsn: "0/8000000" });
  const full = await makePhysical(lab, place.db, agent, { walEmbedded: false });
  const { NATIVE, WAL } = IncrementalMethod;
  expect(await place.next(NATIVE)).toEqual([full, ""]);
  for (const reason of ["WAL_FOREIGN", "WAL_CONFLICT"] as const) {
    await place.tell({ trouble: failureToDetail(new Failure(reason, "it was set back")) });
    expect(await place.next(NATIVE)).toEqual(["", "the archive of its WAL refuses the server, it was set back"]);
    expect(await reasonOf(place.next(WAL))).toBe("WAL_NOT_ARCHIVED");
  }
  await place.tell({ trouble: failureToDetail(new Failure("REPOSITORY_FULL", "no room")) });
  expect(await place.next(NATIVE)).toEqual([full, ""]);
});

test("what a server still keeps for an archive that was ended is told until it is gone, also once its cluster was removed", async () => {
  const { agent, clusterId } = await open("parted");
  const findings = async () => {
    const listed = await lab.client(FindingService).listFindings({});
    return listed.findings.filter(({ subject }) => subject === clusterId).map(({ rule }) => rule);
  };
  const endedAt = ({ ended }: { ended: { id: string; revision: bigint }[] }) => ended.map(({ revision }) => revision);
  await setUp(lab, "parted", { disable: true, repository: "" });
  const ended = endedAt(await agent.next("desiredState"));
  const leftover = {
    slot: `coppice_${clusterId}`,
    isCommanded: false,
    trouble: failureToDetail(new Failure("POSTGRES_UNREACHABLE", "the server is down")),
  };
  const value = create(WalReportSchema, { clusterId, clusterName: "parted", systemIdentifier, leftover });
  agent.send({ case: "walReport", value });
  await expect.poll(findings, { timeout: 30_000 }).toContain("wal-leftover");
  await lab.client(ClusterService).deleteCluster({ cluster: "parted" });
  expect(await findings()).toContain("wal-leftover");
  // Only a person says that the server is gone.
  await setUp(lab, clusterId, { disable: true, repository: "" });
  const [later = 0n] = endedAt(await agent.next("desiredState"));
  expect(later).toBe((ended[0] ?? 0n) + 1n);
  expect(await findings()).not.toContain("wal-leftover");
});

test("an archive is not behind by a position of before a promotion, or of an agent that began anew and told none yet", async () => {
  const { agent, clusterId, tell } = await open("anew");
  const now = Date.now();
  const stored = [run("0/2000000", "0/3000080"), { ...run("0/3000000", "0/20000000"), timeline: 2 }];
  const histories = [{ timeline: 2, content: "1\t0/3000080\tpromoted\n" }] as never;
  const behindAt = async (serverLsn: string, storedLsn: string) => {
    const anchors = [{ ...anchor(now + 60_000, "0/3000100"), timeline: 2 }];
    const serverTime = timestampFromMs(now + 3_600_000);
    await tell({ timeline: 2, stored, histories, anchors, storedLsn, serverLsn, serverTime });
    const { findings } = await lab.client(FindingService).listFindings({});
    return findings.some(({ subject, rule }) => subject === clusterId && rule === "wal-behind");
  };
  await tell({ timeline: 2, serverLsn: "0/3000100", serverTime: timestampFromMs(now) });
  for (const storedLsn of ["", "0/3000080"]) {
    expect(await behindAt("0/20000000", storedLsn)).toBe(false);
    expect(await behindAt("0/20000028", storedLsn)).toBe(false);
    expect(await behindAt("0/20000100", storedLsn)).toBe(true);
  }
  agent[Symbol.dispose]();
});

const hour = 3_600_000;
test.each([
  ["was ahead once", { "0/3000000": 8760 * hour, "0/5000000": -5 * hour, "0/6000000": -4 * hour, "0/F000000": -hour }],
  ["was set back since", { "0/5000000": 3 * hour, "0/6000000": 4 * hour, "0/F000000": hour }],
])("an archive is behind also where the server's clock %s", async (what, anchors) => {
  const { agent, clusterId, tell } = await open(what.replaceAll(" ", "-"));
  const now = Date.now();
  for (const hours of [5, 1, 2])
    await tell({
      stored: [run("0/2000000", "0/5000000")],
      storedLsn: "0/5000000",
      serverLsn: "0/20000000",
      serverTime: timestampFromMs(now + hours * hour),
      anchors: Object.entries(anchors).map(([lsn, ms]) => anchor(now + ms, lsn)),
    });
  expect((await lab.client(ClusterService).getWalArchive({ cluster: clusterId })).lagSeconds).not.toBe(0);
  const behind = async () => {
    const { findings } = await lab.client(FindingService).listFindings({});
    return findings.some(({ subject, rule }) => subject === clusterId && rule === "wal-behind");
  };
  await expect.poll(behind, { timeout: 30_000 }).toBe(true);
  agent[Symbol.dispose]();
});

test("an archive of a server that long stood still is behind only once what it wrote since is five minutes old", async () => {
  const { agent, clusterId, tell } = await open("quiet");
  const now = Date.now();
  const minute = 60_000;
  const behindAt = async (serverTimeMs: number) => {
    await tell({
      stored: [run("0/2000000", "0/5000000")],
      storedLsn: "0/5000000",
      serverLsn: "0/5000200",
      serverTime: timestampFromMs(serverTimeMs),
      // Behind the header of a segment that is empty.
      anchors: [anchor(now - 60 * minute, "0/4000000"), anchor(now, "0/5000028")],
    });
    const { findings } = await lab.client(FindingService).listFindings({});
    return findings.filter(({ subject, rule }) => subject === clusterId && rule === "wal-behind");
  };
  expect(await behindAt(now + 4 * minute)).toEqual([]);
  expect(await behindAt(now + 11 * minute)).toMatchObject([
    { message: expect.stringContaining("512 B of WAL") as string },
  ]);
  agent[Symbol.dispose]();
});

test("an archive in another repository, or on another timeline, is behind only five minutes after it began there", async () => {
  const { agent, clusterId, db, repositoryId: here } = await open("began");
  await makePhysical(lab, db, agent, { walEmbedded: true });
  const location = { kind: { case: "filesystem" as const, value: { path: "/srv/began-there" } } };
  await lab.client(RepositoryService).createRepository({ name: "began-there", homeHost: "began", location });
  const now = Date.now();
  let number = 100n;
  const found = async (rule: string) => {
    const { findings } = await lab.client(FindingService).listFindings({});
    return findings.find((finding) => finding.subject === clusterId && finding.rule === rule);
  };
  const behindAt = async (repositoryId: string, minutes: number, told: object = {}) => {
    const serverTime = timestampFromMs(now + minutes * 60_000);
    const positions = { serverLsn: "0/20000000", serverTime, anchors: [anchor(now, "0/5000000")] };
    await report(agent, { db, clusterId, repositoryId }, { ...positions, ...told, number: ++number });
    return (await found("wal-behind")) !== undefined;
  };
  expect(await behindAt(here, 20)).toBe(false);
  expect(await behindAt(here, 26)).toBe(true);
  const moved = Date.now();
  const { repository: there } = await setUp(lab, "began", { repository: "began-there" });
  const archived = { stored: [run("0/10000000", "0/11000000")], storedLsn: "0/11000000" };
  expect(await behindAt(there, 50, archived)).toBe(false);
  const { sinceTime } = (await found("wal-without-backup")) ?? {};
  expect(sinceTime && timestampMs(sinceTime)).toBeGreaterThanOrEqual(moved);
  expect(await behindAt(there, 56, archived)).toBe(true);
  // A server that was promoted, or restored in its place: no time on that timeline is known yet.
  expect(await behindAt(there, 57, { timeline: 2 })).toBe(false);
  expect(await behindAt(there, 63, { timeline: 2 })).toBe(true);
  agent[Symbol.dispose]();
});
