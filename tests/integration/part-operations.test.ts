// One database at a point in time as the control plane sees it, the agent's part played by the test.
import { CheckStatus } from "@coppice/proto/gen/coppice/common/v1/check";
import { RestoreMode } from "@coppice/proto/gen/coppice/agent/v1/restore_database";
import { RestoreDecision } from "@coppice/proto/gen/coppice/common/v1/held_database";
import { OperationState } from "@coppice/proto/gen/coppice/control/v1/operation";
import { RestoreService } from "@coppice/proto/gen/coppice/control/v1/restore";
import { failureFromConnectError } from "@coppice/proto/kit/connect-failure";
import { afterAll, beforeAll, test } from "vitest";
import { listHeld } from "../../control-plane/src/catalog/operations/held.ts";
import { type ControlPlaneLab, openControlPlaneLab } from "../support/control-plane-lab.ts";
import { openOperationLab } from "../support/operation-lab.ts";
import { openTestCli } from "../support/real/cli.ts";
import { checkPlayed, makePhysical } from "../support/physical/played-backups.ts";

const heartbeatMs = 1000;
const { SUCCEEDED, RUNNING, FAILED } = OperationState;
let lab: ControlPlaneLab;

beforeAll(async () => {
  lab = await openControlPlaneLab({ heartbeatMs });
});
afterAll(() => lab[Symbol.asyncDispose]());

async function reasonOf(work: Promise<unknown>): Promise<string | undefined> {
  return await work.then(
    () => undefined,
    (error: unknown) => failureFromConnectError(error).reason,
  );
}

test("a table goes into the cluster beside, by way of a scratch folder of its own, and is compared with what is live", async ({
  expect,
}) => {
  const db = await openOperationLab(lab, "part", heartbeatMs);
  using agent = await db.connect();
  await checkPlayed(lab, db, agent);
  const backup = await makePhysical(lab, db, agent);
  const restore = {
    cluster: "part",
    database: "orders",
    targetDatabase: "before",
    selection: { tables: [{ schema: "public", name: "items" }] },
    part: { scratch: "/big/" },
  };
  const planned = await lab.client(RestoreService).planRestore({ restore });
  const question = await agent.next("command");
  if (question.spec.case !== "planPart") throw new Error("it is no plan");
  // Its last check has seen no database.
  expect(question.spec.value.databaseKnown).toBe(false);
  const item = { name: "scratch", status: CheckStatus.OK, message: "there is room" };
  agent.answer(question, { result: { case: "planPart", value: { plan: { items: [item], steps: ["do it"] } } } });
  expect((await db.until(planned.id, SUCCEEDED)).result).toMatchObject({
    case: "physicalPlan",
    value: { chain: [backup], items: [{ name: "recovery" }, { name: "scratch" }], steps: ["do it"] },
  });

  const { id } = await lab.client(RestoreService).createRestore({ restore });
  const command = await agent.next("command");
  if (command.spec.case !== "recoverPart") throw new Error("it is no part");
  const scratch = `/big/coppice-${id}`;
  expect(command.spec.value).toMatchObject({
    scratch,
    database: "orders",
    restore: {
      chain: [{ backupId: backup }],
      dataDirectory: `${scratch}/data`,
      tablespaces: [{ oid: 16_400, location: `${scratch}/tablespaces/16400` }],
      start: true,
      replace: false,
    },
    load: { file: { path: `${scratch}/part.dump` }, targetDatabase: "before", mode: RestoreMode.NEW },
    liveDatabase: "orders",
    liveProblem: "",
  });
  expect(command.spec.value.live?.passwordSecret).toBe(command.spec.value.load?.connection?.passwordSecret);
  expect(command.secrets.map(({ value }) => value)).toEqual(["password of part"]);
  expect(await reasonOf(lab.client(RestoreService).createRestore({ restore }))).toBe("OPERATION_CONFLICT");
  const difference = { schema: "public", table: "items", counted: true, onlyRecovered: 5n };
  agent.answer(command, {
    result: {
      case: "recoverPart",
      value: {
        recovered: { endLsn: "0/9" },
        loaded: { database: "before", rows: 9n },
        differences: [difference],
        onlyLive: { more: 3 },
      },
    },
  });
  expect((await db.until(id, SUCCEEDED)).result).toMatchObject({
    case: "recoveredPart",
    value: {
      database: "before",
      rows: 9n,
      endLsn: "0/9",
      differences: [{ table: "items", onlyRecovered: 5n }],
      onlyLive: { more: 3 },
    },
  });
});

test("a dump file is made on the host that is named, where that reaches the backups", async ({ expect }) => {
  const db = await openOperationLab(lab, "filed", heartbeatMs);
  using agent = await db.connect();
  await checkPlayed(lab, db, agent);
  await makePhysical(lab, db, agent);
  await lab.enrol("far");
  const part = (fileHost: string) => ({
    restore: { cluster: "filed", database: "orders", part: { file: "/srv/o.dump", fileHost } },
  });
  // Its repository is a folder of the other host.
  expect(await reasonOf(lab.client(RestoreService).createRestore(part("far")))).toBe("REPOSITORY_WRONG_HOST");
  const { id } = await lab.client(RestoreService).createRestore(part("filed"));
  const command = await agent.next("command");
  if (command.spec.case !== "recoverPart") throw new Error("it is no part");
  expect(command.spec.value).toMatchObject({
    scratch: `/var/tmp/coppice-${id}`,
    file: { path: "/srv/o.dump" },
    liveDatabase: "orders",
  });
  agent.answer(command, { result: { case: "recoverPart", value: { file: { path: "/srv/o.dump" }, fileBytes: 7n } } });
  expect((await db.until(id, SUCCEEDED)).result.value).toMatchObject({ file: "/srv/o.dump", fileBytes: 7n });
  const pause = { cluster: "filed", database: "orders", part: { target: { action: 2 } } };
  expect(await reasonOf(lab.client(RestoreService).createRestore({ restore: pause }))).toBe("INVALID_FIELD");
});

test("is settled by a look, with the passwords as they are then, and is not tried again by itself", async ({
  expect,
}) => {
  const db = await openOperationLab(lab, "partly", heartbeatMs);
  using first = await db.connect();
  await checkPlayed(lab, db, first);
  await makePhysical(lab, db, first);
  const restore = { cluster: "partly", database: "orders", targetDatabase: "before", part: {} };
  const { id } = await lab.client(RestoreService).createRestore({ restore });
  first.accept(await first.next("command"));
  await db.until(id, RUNNING);
  first.cut();
  using second = await db.connect();
  const settle = await second.next("command");
  expect(settle.spec.case === "settle" && settle.spec.value.lost.case).toBe("recoverPart");
  expect(settle.secrets.map(({ value }) => value)).toEqual(["password of partly"]);
  second.answer(settle, { result: { case: "settle", value: { removed: ["the scratch folder"] } } });
  expect((await db.until(id, FAILED)).failure?.reason).toBe("AGENT_LOST");
});

test("what would replace a database waits beside it until that is decided, and only what it says itself can be swapped in", async ({
  expect,
}) => {
  const db = await openOperationLab(lab, "held", heartbeatMs);
  using agent = await db.connect();
  await checkPlayed(lab, db, agent);
  await makePhysical(lab, db, agent);
  const restores = lab.client(RestoreService);
  const { id } = await restores.createRestore({
    restore: { cluster: "held", database: "orders", replace: true, part: {} },
  });
  const decide = (operation: string, decision = RestoreDecision.SWAP, validateOnly = false) =>
    restores.decideRestore({ operation, decision, validateOnly });
  expect(await reasonOf(decide(id))).toBe("NOTHING_TO_DECIDE");
  expect(await reasonOf(decide(`op_${"0".repeat(26)}`))).toBe("OPERATION_NOT_FOUND");
  const command = await agent.next("command");
  if (command.spec.case !== "recoverPart") throw new Error("it is no part");
  expect(command.spec.value.load?.mode).toBe(RestoreMode.HOLD);
  const name = command.spec.value.load?.stagedDatabase ?? "";
  const held = { name, oid: 4_000_000_000, replacesOid: 16_384, connectionLimit: 7, isTemplate: false };
  const value = {
    loaded: { database: name, held },
    differences: [{ schema: "public", table: "items", counted: true }],
  };
  agent.answer(command, { result: { case: "recoverPart", value } });
  expect((await db.until(id, SUCCEEDED)).result).toMatchObject({ value: { held, keptAs: "", database: name } });

  const waiting = async () =>
    (await listHeld(lab.catalog.db, new Date(Date.now() + 60_000))).filter(({ operationId }) => operationId === id);
  expect(await listHeld(lab.catalog.db, new Date(Date.now() - 60_000))).toEqual([]);
  expect(await waiting()).toEqual([expect.objectContaining({ clusterName: "held", name, target: "orders" })]);

  expect(await decide(id, RestoreDecision.SWAP, true)).toMatchObject({ id: "", kind: "decide_restore" });
  const swap = await decide(id);
  expect(await reasonOf(decide(id, RestoreDecision.DROP))).toBe("OPERATION_CONFLICT");
  const decided = await agent.next("command");
  expect(decided.spec).toMatchObject({
    case: "decideRestore",
    value: {
      held,
      decision: RestoreDecision.SWAP,
      targetDatabase: "orders",
      keptDatabase: expect.stringMatching(/^orders_before_\d{14}$/) as string,
    },
  });
  expect(decided.secrets.map((secret) => secret.value)).toEqual(["password of held"]);
  const answer = { decision: RestoreDecision.SWAP, keptAs: "orders_kept" };
  agent.answer(decided, { result: { case: "decideRestore", value: answer } });
  expect((await db.until(swap.id, SUCCEEDED)).result).toMatchObject({
    case: "decidedRestore",
    value: { database: "orders", keptAs: "orders_kept" },
  });
  expect(await waiting()).toEqual([]);
  // At once, before anybody is asked, and before an agent is.
  await using cli = await openTestCli(lab);
  const again = await cli.must(["restore", "swap", id]);
  expect(again).toMatch(/^✓ orders of held is the restored one now\n {2}the database before is kept as orders_kept/);
  const drop = await cli.run(["restore", "drop", id]);
  expect(drop).toMatchObject({ code: 4, stdout: "" });
  expect(drop.stderr).toContain(`✗ orders of held is the restored one already: ${name} was swapped in by ${swap.id}\n`);
  // What has left nothing beside has nothing to be decided.
  expect(await reasonOf(decide(swap.id))).toBe("NOTHING_TO_DECIDE");
});

test("a decision whose agent was lost is settled by a look", async ({ expect }) => {
  const db = await openOperationLab(lab, "undecided", heartbeatMs);
  using first = await db.connect();
  await checkPlayed(lab, db, first);
  await makePhysical(lab, db, first);
  const restores = lab.client(RestoreService);
  const restore = { cluster: "undecided", database: "orders", replace: true, part: {} };
  const { id } = await restores.createRestore({ restore });
  const command = await first.next("command");
  const name = command.spec.case === "recoverPart" ? (command.spec.value.load?.stagedDatabase ?? "") : "";
  const held = { name, oid: 7, replacesOid: 5 };
  first.answer(command, { result: { case: "recoverPart", value: { loaded: { database: name, held } } } });
  await db.until(id, SUCCEEDED);
  const swap = await restores.decideRestore({ operation: id, decision: RestoreDecision.SWAP });
  first.accept(await first.next("command"));
  await db.until(swap.id, RUNNING);
  first.cut();
  using second = await db.connect();
  const settle = await second.next("command");
  expect(settle.spec.case === "settle" && settle.spec.value.lost.case).toBe("decideRestore");
  expect(settle.secrets.map(({ value }) => value)).toEqual(["password of undecided"]);
  second.answer(settle, { result: { case: "settle", value: {} } });
  expect((await db.until(swap.id, FAILED)).failure?.reason).toBe("AGENT_LOST");
});
