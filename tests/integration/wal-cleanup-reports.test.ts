// What becomes of the catalog when WAL that nothing needs is deleted; the agent is played by the test.
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { CleanWalCommand, CleanWalResultSchema } from "@coppice/proto/gen/coppice/agent/v1/clean_wal";
import type { Command } from "@coppice/proto/gen/coppice/agent/v1/command";
import { BackupService } from "@coppice/proto/gen/coppice/control/v1/backup";
import { ClusterService } from "@coppice/proto/gen/coppice/control/v1/cluster";
import { OperationService, OperationState } from "@coppice/proto/gen/coppice/control/v1/operation";
import { UnneededReason } from "@coppice/proto/gen/coppice/control/v1/physical_operation";
import { Failure, failureToDetail } from "@coppice/proto/kit/failure";
import { afterAll, beforeAll, describe, test } from "vitest";
import { type ControlPlaneLab, openControlPlaneLab } from "../support/control-plane-lab.ts";
import { makePhysical, systemIdentifier } from "../support/physical/played-backups.ts";
import { openArchived, reasonOf, report, run } from "../support/wal/told-archive.ts";

const heartbeatMs = 1000;
let lab: ControlPlaneLab;

beforeAll(async () => {
  lab = await openControlPlaneLab({ heartbeatMs });
});
afterAll(async () => {
  await lab[Symbol.asyncDispose]();
});

const clusters = () => lab.client(ClusterService);
const extentsOf = async (cluster: string) =>
  (await clusters().getWalArchive({ cluster })).extents.map(({ startLsn, endLsn }) => `${startLsn} ${endLsn}`);

function cleaningOf({ spec }: Command): CleanWalCommand {
  if (spec.case !== "cleanWal") throw new Error(`${spec.case} deletes no WAL`);
  return spec.value;
}

/** What an agent says that found two objects in each run. */
const answerOf = ({ runs }: CleanWalCommand): MessageInitShape<typeof CleanWalResultSchema> => ({
  runs: runs.map((each) => ({ run: each, objects: 2, bytes: 20n })),
  anchors: 3,
});

/** What a backup of a standby names of its last segment. */
const named = "000000010000000000000006.partial.0000000006000200";

/** An archive of eight segments with a backup that begins in the fifth of them. */
async function openCleanable(name: string) {
  const place = await openArchived(lab, heartbeatMs, name);
  const stored = [run("0/2000000", "0/A000000")];
  await report(place.agent, place, { stored, storedLsn: "0/A000000" });
  const objects = [{ key: `00000001/0000000100000000/${named}`, sizeBytes: 10n, sha256: "a".repeat(64) }];
  const archivedWal = [{ codec: "zstd", objects }];
  const physical = { startLsn: "0/6000028", stopLsn: "0/6000120", archivedWal };
  const backup = await makePhysical(lab, place.db, place.agent, { walEmbedded: false, physical });
  return { ...place, stored, backup };
}

describe.concurrent("WAL that no backup leads to", () => {
  test("is named with its reason, counts for nothing once it is deleted, and is not believed in again", async ({
    expect,
  }) => {
    const place = await openCleanable("tidy");
    const { agent, db, stored, backup } = place;
    using _agent = agent;
    const look = await clusters().cleanWal({ cluster: "tidy", dryRun: true });
    const shown = cleaningOf(await agent.next("command"));
    expect(shown).toMatchObject({
      systemIdentifier,
      segmentBytes: 16_777_216n,
      dryRun: true,
      runs: [run("0/2000000", "0/6000000")],
    });
    expect(shown.repository?.secrets?.delete ?? "").toBe("");
    expect(look.spec).toMatchObject({ case: "cleanWal", value: { backedUp: true } });
    if (look.spec.case !== "cleanWal") throw new Error("it is no deletion");
    const { etag } = look.spec.value;
    // While a look is under way nothing is kept from anything.
    expect(await reasonOf(clusters().cleanWal({ cluster: "tidy", etag: "another" }))).toBe("ETAG_MISMATCH");
    const { id } = await clusters().cleanWal({ cluster: "tidy", etag });
    const command = await agent.next("command");
    const cleaning = cleaningOf(command);
    agent.accept(command);
    expect(cleaning).toMatchObject({ dryRun: false, runs: [run("0/2000000", "0/6000000")], keptNames: [named] });
    expect(cleaning.knownFolders).toHaveLength(1);
    expect(cleaning.knownFolders[0]).toContain(`_full_${backup}`);
    // From the moment it is sent it is not counted on, whatever comes of it.
    expect(await extentsOf("tidy")).toEqual(["0/6000000 0/A000000"]);
    expect(await reasonOf(clusters().verifyWal({ cluster: "tidy" }))).toBe("WAL_IN_USE");
    expect(await reasonOf(clusters().cleanWal({ cluster: "tidy" }))).toBe("WAL_IN_USE");
    agent.answer(command, { result: { case: "cleanWal", value: answerOf(cleaning) } });
    const done = await db.until(id, OperationState.SUCCEEDED);
    expect(done.result).toMatchObject({
      case: "cleanedWal",
      value: {
        stretches: [{ objects: 2, bytes: 20n, unneeded: { reason: UnneededReason.BEFORE_BACKUPS, backup } }],
        anchors: 3,
      },
    });
    // An agent that begins anew tells all that it ever stored.
    await report(agent, place, { stored, storedLsn: "0/B000000", number: 2n });
    await report(agent, place, { stored: [run("0/A000000", "0/B000000")], storedLsn: "0/B000000", number: 3n });
    expect(await extentsOf("tidy")).toEqual(["0/6000000 0/B000000"]);
    const { windows } = await clusters().getRecoveryWindow({ cluster: "tidy" });
    expect(windows).toMatchObject([{ startLsn: "0/6000120", endLsn: "0/B000000" }]);
  });

  test("is deleted again where its agent was lost in the middle, and what is not gone is found by a verification", async ({
    expect,
  }) => {
    const place = await openCleanable("cut-off");
    const { db, agent: first } = place;
    const { id } = await clusters().cleanWal({ cluster: "cut-off" });
    const lost = await first.next("command");
    first.accept(lost);
    await db.until(id, OperationState.RUNNING);
    first.cut();
    using second = await db.connect();
    expect(await extentsOf("cut-off")).toEqual(["0/6000000 0/A000000"]);
    const again = await second.next("command");
    expect(cleaningOf(again).runs).toEqual(cleaningOf(lost).runs);
    second.accept(again);
    // It cannot say how far it came: nothing that was to go is believed to be there, until somebody has looked.
    const failure = failureToDetail(new Failure("REPOSITORY_UNREACHABLE", "it is away"));
    second.answer(again, { failure });
    await db.until(id, OperationState.FAILED);
    expect(await extentsOf("cut-off")).toEqual(["0/6000000 0/A000000"]);
    const verification = await clusters().verifyWal({ cluster: "cut-off" });
    const verify = await second.next("command");
    if (verify.spec.case !== "verifyWal") throw new Error("it is no verification");
    expect(verify.spec.value.expected).toMatchObject([run("0/6000000", "0/A000000")]);
    const sound = [run("0/4000000", "0/A000000")];
    const value = { objects: 6, bytes: 60n, plainBytes: 600n, records: 7n, sound };
    second.answer(verify, { result: { case: "verifyWal", value } });
    await db.until(verification.id, OperationState.SUCCEEDED);
    expect(await extentsOf("cut-off")).toEqual(["0/4000000 0/A000000"]);
    // The next one takes what is there, and looks for what may be left of the one before.
    await clusters().cleanWal({ cluster: "cut-off" });
    expect(cleaningOf(await second.next("command")).runs).toMatchObject([
      run("0/4000000", "0/6000000"),
      run("0/2000000", "0/4000000"),
    ]);
  });

  test("counts as before when the agent refused to delete any of it", async ({ expect }) => {
    const { db, agent } = await openCleanable("refused");
    using _agent = agent;
    const { id } = await clusters().cleanWal({ cluster: "refused" });
    const command = await agent.next("command");
    const failure = failureToDetail(new Failure("BACKUPS_UNKNOWN", "there is a backup that nobody knows"));
    const left = [run("0/2000000", "0/6000000")];
    agent.answer(command, { failure, result: { case: "cleanWal", value: { left } } });
    await db.until(id, OperationState.FAILED);
    expect(await extentsOf("refused")).toEqual(["0/2000000 0/A000000"]);
  });

  test("of a server that the cluster was before goes as a whole, when it is named and has no backup", async ({
    expect,
  }) => {
    const place = await openCleanable("upgraded");
    const { agent, db } = place;
    using _agent = agent;
    const { id } = await clusters().checkCluster({ cluster: "upgraded" });
    const facts = { systemIdentifier: "7380000000000000007", serverVersionNum: 180_001 };
    const checking = await agent.next("command");
    agent.answer(checking, { result: { case: "checkCluster", value: { facts } } });
    await db.until(id, OperationState.SUCCEEDED);
    const former = { cluster: "upgraded", systemIdentifier, dryRun: true };
    const kept = async () => {
      await clusters().cleanWal(former);
      return cleaningOf(await agent.next("command")).runs;
    };
    expect(await kept()).toMatchObject([run("0/2000000", "0/6000000")]);
    await clusters().updateWalArchive({ cluster: "upgraded", repository: "upgraded" });
    expect(await kept()).toMatchObject([run("0/2000000", "0/6000000")]);
    const { id: deletion } = await lab.client(BackupService).deleteBackup({ backup: place.backup, allowLast: true });
    const command = await agent.next("command");
    agent.answer(command, { result: { case: "deleteBackup", value: { objects: 1 } } });
    await db.until(deletion, OperationState.SUCCEEDED);
    expect(await kept()).toMatchObject([run("0/2000000", "0/A000000")]);
    expect(await reasonOf(clusters().cleanWal({ cluster: "upgraded" }))).toBe("WAL_NOT_ARCHIVED");
  });

  test("stays while an operation on the cluster has not ended, and all of it while there is no backup", async ({
    expect,
  }) => {
    const place = await openArchived(lab, heartbeatMs, "in-use");
    const { agent, db } = place;
    using _agent = agent;
    expect(await reasonOf(clusters().cleanWal({ cluster: "in-use" }))).toBe("WAL_NOT_ARCHIVED");
    await report(agent, place, { stored: [run("0/2000000", "0/A000000")], storedLsn: "0/A000000" });
    const { spec } = await clusters().cleanWal({ cluster: "in-use", dryRun: true });
    expect(spec).toMatchObject({ case: "cleanWal", value: { unneeded: [], backedUp: false } });
    await agent.next("command");
    const { id } = await clusters().verifyWal({ cluster: "in-use" });
    const verify = await agent.next("command");
    const refused = clusters().cleanWal({ cluster: "in-use" });
    expect(await reasonOf(refused)).toBe("WAL_IN_USE");
    agent.accept(verify);
    await lab.client(OperationService).cancelOperation({ operation: id });
    agent.answer(verify, { cancelled: true });
    await db.until(id, OperationState.CANCELLED);
    await clusters().cleanWal({ cluster: "in-use" });
    expect(cleaningOf(await agent.next("command")).runs).toEqual([]);
    expect(await extentsOf("in-use")).toEqual(["0/2000000 0/A000000"]);
  });
});
