// What a restore may be asked for, and what its agent is told: at the edge that agents see.
import { RestoreMode } from "@coppice/proto/gen/coppice/agent/v1/restore_database";
import { DumpContents } from "@coppice/proto/gen/coppice/common/v1/dump_options";
import { ClusterService } from "@coppice/proto/gen/coppice/control/v1/cluster";
import { OperationState } from "@coppice/proto/gen/coppice/control/v1/operation";
import { RestoreService, RestoreWhat } from "@coppice/proto/gen/coppice/control/v1/restore";
import { failureFromConnectError } from "@coppice/proto/kit/connect-failure";
import { afterAll, beforeAll, describe, test } from "vitest";
import { type ControlPlaneLab, openControlPlaneLab } from "../support/control-plane-lab.ts";
import { openOperationLab } from "../support/operation-lab.ts";

const heartbeatMs = 1000;
const { SUCCEEDED } = OperationState;
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

  test("of the globals is told which roles, and a plan of it is refused with what to do instead", async ({
    expect,
  }) => {
    const db = await openOperationLab(lab, "global", heartbeatMs);
    using agent = await db.connect();
    await db.makeBackup(agent);
    const restore = { cluster: "global", what: RestoreWhat.GLOBALS, roles: ["app"], noTablespaces: true };
    const refused = await refusal(restores().planRestore({ restore }));
    expect([refused.reason, refused.hint.includes("--dry-run")]).toEqual(["NOT_SUPPORTED", true]);
    const { id } = await restores().createRestore({ restore });
    const command = await agent.next("command");
    expect(command.spec).toMatchObject({ case: "restoreGlobals", value: { roles: ["app"], noTablespaces: true } });
    agent.answer(command, { result: { case: "restoreGlobals", value: { createdRoles: ["app"] } } });
    expect((await db.until(id, SUCCEEDED)).result).toMatchObject({
      case: "restoredGlobals",
      value: { createdRoles: ["app"] },
    });
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
