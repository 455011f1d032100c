// What a plan decides that nobody asked for is said, and refused until somebody does; the agent's part played by the test.
import { CheckStatus } from "@coppice/proto/gen/coppice/common/v1/check";
import type { WalReport } from "@coppice/proto/gen/coppice/agent/v1/wal_archive";
import { OperationState } from "@coppice/proto/gen/coppice/control/v1/operation";
import { RepositoryService } from "@coppice/proto/gen/coppice/control/v1/repository";
import { RestoreService } from "@coppice/proto/gen/coppice/control/v1/restore";
import { failureFromConnectError } from "@coppice/proto/kit/connect-failure";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type ControlPlaneLab, openControlPlaneLab } from "../support/control-plane-lab.ts";
import { makePhysical } from "../support/physical/played-backups.ts";
import { anchor, openArchived, report, run } from "../support/wal/told-archive.ts";

const heartbeatMs = 1000;
let lab: ControlPlaneLab;

beforeAll(async () => {
  lab = await openControlPlaneLab({ heartbeatMs });
});
afterAll(() => lab[Symbol.asyncDispose]());

const onTwo = <T extends { timeline: number }>(told: T): T => ({ ...told, timeline: 2 });
const history = { timeline: 2, content: "1\t0/4800000\tno recovery target specified\n" };

/** A cluster with one backup, and what its archive is told to hold; `restore` asks for it in a directory. */
async function openTold(name: string, told: Pick<WalReport, "stored" | "anchors"> & { histories?: object[] }) {
  const place = await openArchived(lab, heartbeatMs, name);
  const { agent, db } = place;
  const backup = await makePhysical(lab, db, agent, { walEmbedded: false });
  await report(agent, place, { ...told, histories: (told.histories ?? []) as WalReport["histories"] });
  const request = (atMs: number | undefined, physical: object = {}, more: object = {}) => ({
    cluster: name,
    physical: {
      host: name,
      dataDirectory: "/srv/back",
      target: atMs === undefined ? physical : { point: { case: "time", value: timestampFromMs(atMs) }, ...physical },
    },
    ...more,
  });
  const create = (...args: Parameters<typeof request>) =>
    lab.client(RestoreService).createRestore({ restore: request(...args) as never });
  const refusal = async (...args: Parameters<typeof request>) =>
    await create(...args).then(
      () => undefined,
      (error: unknown) => failureFromConnectError(error),
    );
  return { agent, db, backup, request, create, refusal };
}

test("a latest before a gap is refused until it is accepted, and then its end says so", async () => {
  const { agent, db, backup, request, create, refusal } = await openTold("gap", {
    stored: [run("0/2000000", "0/4000000"), run("0/5000000", "0/6000000")],
    anchors: [],
  });
  const failure = await refusal(undefined);
  expect(failure).toMatchObject({
    reason: "RECOVERY_NOT_AS_ASKED",
    hint: "say that it is what you want: --accept wal-out-of-reach",
  });
  expect(failure?.message).toContain("WAL is archived up to 0/6000000");
  // Also of one table, whose rows would be the wrong ones.
  const part = { cluster: "gap", database: "orders", targetDatabase: "before", part: {} };
  const ofPart = lab.client(RestoreService).createRestore({ restore: part });
  await expect(ofPart.catch((error: unknown) => failureFromConnectError(error).reason)).resolves.toBe(
    "RECOVERY_NOT_AS_ASKED",
  );
  const { id: planId } = await lab.client(RestoreService).planRestore({ restore: request(undefined) as never });
  const question = await agent.next("command");
  const items = [{ name: "directory", status: CheckStatus.OK, message: "it is empty" }];
  agent.answer(question, { result: { case: "planPhysical", value: { items } } });
  expect((await db.until(planId, OperationState.SUCCEEDED)).result.value).toMatchObject({
    items: [{ name: "recovery" }, { name: "wal-out-of-reach", status: CheckStatus.FAILED }, { name: "directory" }],
  });

  // Whoever names the backup has chosen how far it leads.
  const named = await lab.client(RestoreService).createRestore({
    restore: request(undefined, {}, { backup }) as never,
    validateOnly: true,
  });
  expect(named.spec.value).toMatchObject({ warnings: [failure?.message.replace("cluster gap: ", "")] });

  const { id } = await create(undefined, {}, { accept: ["wal-out-of-reach"] });
  const command = await agent.next("command");
  if (command.spec.case !== "restorePhysical") throw new Error("it is no restore");
  expect(command.spec.value.warnings).toHaveLength(1);
  const value = { dataDirectory: "/srv/back", files: 900, warnings: ["TLS is off"] };
  agent.answer(command, { result: { case: "restorePhysical", value } });
  expect((await db.until(id, OperationState.SUCCEEDED)).result.value).toMatchObject({
    warnings: [expect.stringContaining("WAL is archived up to 0/6000000"), "TLS is off"],
  });
});

test("a time on a timeline that was left is recovered along that one, and along another only when that is named", async () => {
  const now = Date.now() + 60_000;
  const parted = {
    histories: [history],
    anchors: [
      anchor(now + 10_000, "0/3000000"),
      anchor(now + 20_000, "0/5000000"),
      anchor(now + 40_000, "0/7000000"),
      onTwo(anchor(now + 60_000, "0/4900000")),
      onTwo(anchor(now + 90_000, "0/6000000")),
    ],
  };
  const whole = await openTold("parted", {
    stored: [run("0/2000000", "0/8000000"), onTwo(run("0/4000000", "0/7000000"))],
    ...parted,
  });
  const { spec } = await whole.create(now + 30_000);
  expect(spec.value).toMatchObject({
    serverTarget: { timeline: 1 },
    warnings: expect.arrayContaining([
      expect.stringContaining("timeline 1 is followed, which was written at that time"),
    ]) as string[],
  });
  const lost = await openTold("parted-lost", {
    stored: [run("0/2000000", "0/4800000"), onTwo(run("0/4000000", "0/7000000"))],
    ...parted,
  });
  expect(await lost.refusal(now + 30_000)).toMatchObject({
    reason: "RECOVERY_NOT_AS_ASKED",
    hint: expect.stringContaining("--accept time-of-other-timeline") as string,
  });
  expect((await lost.refusal(now + 30_000, {}, { backup: lost.backup }))?.reason).toBe("RECOVERY_NOT_AS_ASKED");
  const chosen = await lost.create(now + 30_000, { timeline: 2 });
  expect(chosen.spec.value).toMatchObject({ serverTarget: { timeline: 2 } });
});

test("what was written since a failover is not left out without a word", async () => {
  const { create, refusal } = await openTold("cut", {
    histories: [history],
    stored: [run("0/2000000", "0/4000000"), onTwo(run("0/6000000", "0/7000000"))],
    anchors: [],
  });
  expect(await refusal(undefined)).toMatchObject({
    reason: "RECOVERY_NOT_AS_ASKED",
    message: expect.stringContaining("timeline 1 is followed: along the newest one, 2, there is no way") as string,
  });
  expect((await refusal(undefined, {}, { accept: ["something"] }))?.reason).toBe("INVALID_FIELD");
  const { spec } = await create(undefined, { timeline: 1 });
  expect(spec.value).toMatchObject({ serverTarget: { timeline: 1 }, expectedEndLsn: "0/4000000" });
});

test("where the newest backup may not be decrypted, one that leads to the same point is taken, and one that does not is named", async () => {
  const { agent, db, backup, request, refusal } = await openTold("sealed", {
    stored: [run("0/2000000", "0/6000000")],
    anchors: [],
  });
  const location = { kind: { case: "filesystem", value: { path: "/srv/vault" } } } as const;
  await lab.client(RepositoryService).createRepository({ name: "vault", homeHost: "sealed", location });
  const physical = { startLsn: "0/3000028", stopLsn: "0/3000120" };
  const newest = await makePhysical(lab, db, agent, { repository: "vault", physical });
  const planned = async (target: object, more: object = {}) => {
    const restore = request(undefined, target, more) as never;
    const { spec } = await lab.client(RestoreService).createRestore({ restore, validateOnly: true });
    return spec.value;
  };
  expect(await planned({})).toMatchObject({ chain: [newest], warnings: [] });
  await lab.server.sql(
    "postgres",
    `update repository set encryption = '{"recipients": ["age1x"]}' where name = 'vault'`,
  );
  for (const target of [{}, { point: { case: "lsn", value: "0/5000000" } }])
    expect(await planned(target)).toMatchObject({
      chain: [backup],
      warnings: expect.arrayContaining([
        `backup ${newest} in repository vault would be read, which host sealed may not decrypt: ${backup} leads to the same point and is taken`,
      ]) as unknown,
    });
  const immediate = { point: { case: "immediate", value: true } };
  expect(await refusal(undefined, immediate)).toMatchObject({
    reason: "HOST_MAY_NOT_DECRYPT",
    hint: `allow it: coppice host update sealed --label may-decrypt=true; or name an older one that it may read, which leads to 0/2000120 on timeline 1: --backup ${backup}`,
  });
  expect(await planned(immediate, { backup })).toMatchObject({ chain: [backup], warnings: [] });
  expect((await refusal(undefined, {}, { backup: newest }))?.reason).toBe("HOST_MAY_NOT_DECRYPT");
});
