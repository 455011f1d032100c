// What a restore may be asked for, and what its agent is told: at the edge that agents see.
import { RestoreMode } from "@coppice/proto/gen/coppice/agent/v1/restore_database";
import { DumpContents } from "@coppice/proto/gen/coppice/common/v1/dump_options";
import { ClusterService } from "@coppice/proto/gen/coppice/control/v1/cluster";
import { OperationService, OperationState } from "@coppice/proto/gen/coppice/control/v1/operation";
import { RestoreService, RestoreWhat } from "@coppice/proto/gen/coppice/control/v1/restore";
import { failureFromConnectError } from "@coppice/proto/kit/connect-failure";
import { afterAll, beforeAll, describe, test } from "vitest";
import { noteClusterFound } from "../../control-plane/src/catalog/outcome/cluster.ts";
import { type ControlPlaneLab, openControlPlaneLab } from "../support/control-plane-lab.ts";
import { openOperationLab } from "../support/operation-lab.ts";

const heartbeatMs = 1000;
const { SUCCEEDED, FAILED } = OperationState;
let lab: ControlPlaneLab;

beforeAll(async () => {
  lab = await openControlPlaneLab({ heartbeatMs });
});
afterAll(async () => {
  await lab[Symbol.asyncDispose]();
});

const restores = () => lab.client(RestoreService);
const refusal = async (work: Promise<unknown>) => {
  const error: unknown = await work.then(
    () => "it was not refused",
    (caught: unknown) => caught,
  );
  return failureFromConnectError(error);
};

describe.concurrent("a restore", () => {
  test("of a part of a database carries what was selected to its agent, and so does its plan", async ({ expect }) => {
    const db = await openOperationLab(lab, "partly", heartbeatMs);
    using agent = await db.connect();
    await db.makeBackup(agent);
    const selection = {
      tables: [{ schema: "public", name: "customers" }],
      contents: DumpContents.DATA_ONLY,
      checksums: true,
    };
    const restore = { cluster: "partly", database: "orders", into: true, selection };
    const expected = { mode: RestoreMode.INTO, database: "orders", targetDatabase: "orders", jobs: 1, selection };
    await restores().planRestore({ restore });
    const planned = await agent.next("command");
    if (planned.spec.case !== "planRestore") throw new Error(`${planned.spec.case} came`);
    expect(planned.spec.value.restore).toMatchObject(expected);
    agent.answer(planned, { result: { case: "planRestore", value: {} } });
    await restores().createRestore({ restore });
    const command = await agent.next("command");
    expect(command.spec.value).toMatchObject(expected);
  });

  test("over the database that holds the catalog itself is refused, and beside it is not", async ({ expect }) => {
    const db = await openOperationLab(lab, "own", heartbeatMs);
    using agent = await db.connect();
    await db.makeBackup(agent);
    const { id } = await lab.client(ClusterService).getCluster({ cluster: "own" });
    const identifier = await lab.server.sql("postgres", "select system_identifier from pg_control_system()");
    const incarnations = [{ systemIdentifier: identifier.trim(), major: 15, firstSeenTime: new Date() }];
    await lab.catalog.transaction((tx) => noteClusterFound(tx, { id, name: "own", incarnations }));
    const over = { cluster: "own", database: "orders", targetDatabase: "postgres" };
    for (const restore of [
      { ...over, replace: true },
      { ...over, into: true },
    ])
      expect(await refusal(restores().createRestore({ restore }))).toMatchObject({
        reason: "DATABASE_IN_USE",
        message: 'the database "postgres" of cluster own holds this catalog',
      });
    expect(await restores().createRestore({ restore: { ...over, targetDatabase: "beside" } })).toMatchObject({
      kind: "create_restore",
    });
  });

  test("of a file goes to the agent of the cluster, and is refused where the file is elsewhere", async ({ expect }) => {
    const db = await openOperationLab(lab, "filed", heartbeatMs);
    await lab.enrol("elsewhere");
    using agent = await db.connect();
    const restore = { cluster: "filed", file: "/srv/x.sql.gz", fileHost: "filed", targetDatabase: "orders" };
    const { id } = await restores().createRestore({ restore });
    const command = await agent.next("command");
    if (command.spec.case !== "restoreDatabase") throw new Error(`${command.spec.case} came`);
    const { backup, file, database, targetDatabase } = command.spec.value;
    expect({ backup, path: file?.path, database, targetDatabase }).toEqual({
      backup: undefined,
      path: "/srv/x.sql.gz",
      database: "",
      targetDatabase: "orders",
    });
    agent.answer(command, { result: { case: "restoreDatabase", value: { database: "orders" } } });
    await db.until(id, SUCCEEDED);
    const refused = await refusal(restores().createRestore({ restore: { ...restore, fileHost: "elsewhere" } }));
    expect(refused).toMatchObject({
      reason: "INVALID_FIELD",
      message: "the file is on host elsewhere, and cluster filed is reached from filed",
      fields: [{ field: "restore.file_host" }],
    });
    expect(refused.hint).toContain("copy the file to filed");
  });

  test("of an encrypted file brings its identity to the agent alone, and only until it has ended", async ({
    expect,
  }) => {
    const db = await openOperationLab(lab, "sealedfile", heartbeatMs);
    const identity = "AGE-SECRET-KEY-1FORTESTS";
    const restore = { cluster: "sealedfile", file: "/srv/x.sql.age", targetDatabase: "orders", identity };
    const ask = () => restores().createRestore({ restore });
    expect((await refusal(ask())).reason).toBe("HOST_MAY_NOT_DECRYPT");
    await lab.server.sql("postgres", `update host set labels = '{"may-decrypt": "true"}' where name = 'sealedfile'`);
    const kept = async (id: string) =>
      (await lab.server.sql("postgres", `select count(*) from secret where purpose like '%${id}'`)).trim();
    const checked = await restores().createRestore({ restore, validateOnly: true });
    expect(checked.spec.value).toMatchObject({ file: "/srv/x.sql.age" });
    const early = await ask();
    expect(await kept(early.id)).toBe("1");
    await lab.client(OperationService).cancelOperation({ operation: early.id });
    expect(await kept(early.id)).toBe("0");

    using agent = await db.connect();
    for (const state of [FAILED, SUCCEEDED]) {
      const started = await ask();
      expect(JSON.stringify(started.spec.value)).not.toContain("AGE-SECRET");
      const command = await agent.next("command");
      if (command.spec.case !== "restoreDatabase") throw new Error(`${command.spec.case} came`);
      const { identitySecret } = command.spec.value.file ?? {};
      expect(command.secrets.find(({ id }) => id === identitySecret)?.value).toBe(identity);
      const tables = ["operation", "audit_record", "request", "secret"].map(
        (name) => `select row_to_json(t)::text from ${name} t`,
      );
      const stored = await lab.server.sql("postgres", tables.join(" union all "));
      expect([stored.includes(started.id), stored.includes("AGE-SECRET")]).toEqual([true, false]);
      if (state === FAILED) agent.answer(command, { failure: { reason: "IDENTITY_WRONG", message: "another one" } });
      else agent.answer(command, { result: { case: "restoreDatabase", value: { database: "orders" } } });
      await db.until(started.id, state);
      expect(await kept(started.id)).toBe("0");
    }
  });

  test("of the globals is told which roles, and its plan asks for the very same", async ({ expect }) => {
    const db = await openOperationLab(lab, "global", heartbeatMs);
    using agent = await db.connect();
    await db.makeBackup(agent);
    const restore = { cluster: "global", what: RestoreWhat.GLOBALS, roles: ["app"], noTablespaces: true };
    const plan = await restores().planRestore({ restore });
    const planned = await agent.next("command");
    if (planned.spec.case !== "planRestore") throw new Error(`${planned.spec.case} came`);
    const globals = { createdRoles: ["app"], presentRoles: ["postgres"] };
    agent.answer(planned, { result: { case: "planRestore", value: { globals } } });
    expect((await db.until(plan.id, SUCCEEDED)).result).toMatchObject({ case: "restorePlan", value: { globals } });
    const { id } = await restores().createRestore({ restore });
    const command = await agent.next("command");
    expect(command.spec).toMatchObject({ case: "restoreGlobals", value: { roles: ["app"], noTablespaces: true } });
    expect(command.spec.value).toEqual(planned.spec.value.globals);
    agent.answer(command, { result: { case: "restoreGlobals", value: { createdRoles: ["app"] } } });
    expect((await db.until(id, SUCCEEDED)).result).toMatchObject({
      case: "restoredGlobals",
      value: { createdRoles: ["app"] },
    });
  });

  test("of a whole cluster is planned by one command, and an answer about other databases is not believed", async ({
    expect,
  }) => {
    const db = await openOperationLab(lab, "wholly", heartbeatMs);
    using agent = await db.connect();
    await db.makeBackup(agent);
    const restore = { cluster: "wholly", what: RestoreWhat.CLUSTER };
    for (const [database, state] of [
      ["orders", SUCCEEDED],
      ["stock", FAILED],
    ] as const) {
      const { id } = await restores().planRestore({ restore });
      const command = await agent.next("command");
      if (command.spec.case !== "planRestore") throw new Error(`${command.spec.case} came`);
      expect(command.spec.value).toMatchObject({ globals: {}, databases: [{ database: "orders" }] });
      const databases = [{ database, plan: { keptAs: "x" } }];
      agent.answer(command, { result: { case: "planRestore", value: { globals: {}, databases } } });
      const { result, failure } = await db.until(id, state);
      if (state === FAILED) expect(failure?.reason).toBe("AGENT_ANSWER_INVALID");
      else expect(result?.value).toMatchObject({ databases: [{ targetDatabase: "orders", plan: { keptAs: "x" } }] });
    }
  });

  test("of an encrypted backup is refused at once where the target's host may not decrypt", async ({ expect }) => {
    const db = await openOperationLab(lab, "sealed", heartbeatMs);
    using agent = await db.connect();
    await db.makeBackup(agent);
    await lab.server.sql(
      "postgres",
      `update repository set encryption = '{"recipients": ["age1x"]}' where name = 'sealed'`,
    );
    const restore = { cluster: "sealed", database: "orders", targetDatabase: "copy" };
    expect(await refusal(restores().createRestore({ restore }))).toMatchObject({
      reason: "HOST_MAY_NOT_DECRYPT",
      message: "host sealed may not decrypt what repository sealed holds",
    });
    await lab.server.sql("postgres", `update host set labels = '{"may-decrypt": "true"}' where name = 'sealed'`);
    expect((await refusal(restores().planRestore({ restore }))).reason).toBe("IDENTITY_MISSING");
  });

  test("into a cluster of another host is done there, when that host reaches the repository", async ({ expect }) => {
    const db = await openOperationLab(lab, "origin", heartbeatMs);
    const other = await openOperationLab(lab, "goal", heartbeatMs);
    using agent = await db.connect();
    await db.makeBackup(agent);
    const restore = { cluster: "origin", database: "orders", targetCluster: "goal" };
    expect(await refusal(restores().createRestore({ restore }))).toMatchObject({
      reason: "REPOSITORY_WRONG_HOST",
      message: "repository origin is a folder of host origin, not of goal",
    });
    await lab.server.sql(
      "postgres",
      `update repository set location_key = 'filesystem:shared:/srv/origin', home_host_id = null where name = 'origin'`,
    );
    using there = await other.connect();
    const { hostName } = await restores().createRestore({ restore });
    expect(hostName).toBe("goal");
    expect((await there.next("command")).spec.case).toBe("restoreDatabase");
  });

  test("of a cluster is refused at once for databases that are there, unless they are replaced", async ({ expect }) => {
    const db = await openOperationLab(lab, "full", heartbeatMs);
    using agent = await db.connect();
    await db.makeBackup(agent);
    const { id } = await lab.client(ClusterService).checkCluster({ cluster: "full" });
    const facts = { systemIdentifier: "7123", serverVersionNum: 150_009, databases: [{ name: "orders" }] };
    agent.answer(await agent.next("command"), { result: { case: "checkCluster", value: { facts } } });
    await db.until(id, SUCCEEDED);
    const restore = { cluster: "full", what: RestoreWhat.CLUSTER };
    const refused = await refusal(restores().createRestore({ restore }));
    expect(refused).toMatchObject({
      reason: "DATABASE_EXISTS",
      message: 'cluster full has databases of these names already: "orders"',
    });
    const { spec } = await restores().createRestore({ restore: { ...restore, replace: true }, validateOnly: true });
    expect(spec.case).toBe("restoreCluster");
  });
});
