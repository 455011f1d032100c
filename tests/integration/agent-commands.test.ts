import { clone, create, type MessageInitShape } from "@bufbuild/protobuf";
import { CommandSchema, type Result } from "@coppice/proto/gen/coppice/agent/v1/command";
import { RestoreDatabaseCommandSchema, RestoreMode } from "@coppice/proto/gen/coppice/agent/v1/restore_database";
import { openLog } from "@coppice/proto/kit/log";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { handlers } from "../../agent/src/commands/registry.ts";
import type { AgentMessage } from "../../agent/src/commands/reporter.ts";
import { type CommandRunner, openRunner } from "../../agent/src/commands/runner.ts";
import { openJournal } from "../../agent/src/journal/journal.ts";
import { type DumpLab, openDumpLab } from "../support/dumps/dump-lab.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";
import { openBudget, usualBudgetBytes } from "../../agent/src/budget.ts";

const stack = new AsyncDisposableStack();
const messages: AgentMessage[] = [];
let server: PostgresServer;
let lab: DumpLab;
let runner: CommandRunner;
let commands = 0;

beforeAll(async () => {
  server = stack.use(await openPostgresServer({ major: 18 }));
  await server.sql("postgres", "create database orders");
  await server.sql("orders", "create table item (id int primary key); insert into item select generate_series(1, 100)");
  lab = stack.use(await openDumpLab(server));
  const journal = stack.use(await openJournal(lab.folder));
  runner = stack.use(
    openRunner({
      handlers,
      journal,
      report: (message) => void messages.push(message),
      workFolder: lab.workFolder,
      chainFolder: lab.workFolder,
      walFolder: lab.workFolder,
      agentVersion: "0.0.1",
      clientFiles: lab.files,
      budget: openBudget(usualBudgetBytes),
      log: openLog({ level: "silent", name: "agent" }),
    }),
  );
});

afterAll(async () => {
  await stack.disposeAsync();
});

type Spec = Exclude<NonNullable<MessageInitShape<typeof CommandSchema>["spec"]>, { case?: undefined }>;

/** Sends a command of the operation and waits for how it ends. */
async function carryOut(operationId: string, spec: Spec): Promise<Result> {
  commands++;
  const commandId = `cmd_${commands}`;
  runner.begin(
    create(CommandSchema, {
      commandId,
      operationId,
      attempt: 1,
      fence: { incarnation: 1n, number: BigInt(commands) },
      secrets: [{ id: "sec_test", value: server.password }],
      spec,
    }),
  );
  return await vi.waitFor(
    () => {
      for (const { case: name, value } of messages) {
        if (name === "result" && value.commandId === commandId) return value as Result;
      }
      throw new Error(`no result of ${commandId} yet`);
    },
    { timeout: 40_000, interval: 20 },
  );
}

test("the agent's commands check, dump, verify, restore, settle and delete on a real cluster", async () => {
  const dump = lab.dumpCommand({ databases: ["orders"] });
  const { backup, connection } = dump;
  const repository = backup?.repository;

  const cluster = await carryOut("op_1", { case: "checkCluster", value: { connection } });
  expect(cluster.result).toMatchObject({ case: "checkCluster", value: { facts: { isLocal: true } } });
  const folder = await carryOut("op_2", { case: "checkRepository", value: { repository } });
  expect(folder.failure).toBeUndefined();

  const before = await carryOut("op_3", { case: "settle", value: { lost: { case: "backupDump", value: dump } } });
  expect(before.result).toMatchObject({ case: "settle", value: { outcome: { case: undefined } } });
  const dumped = await carryOut("op_3", { case: "backupDump", value: dump });
  expect(dumped.failure).toBeUndefined();
  expect(dumped.result).toMatchObject({ case: "backupDump", value: { manifest: { complete: true } } });
  const lostDump = await carryOut("op_3", { case: "settle", value: { lost: { case: "backupDump", value: dump } } });
  expect(lostDump.result).toMatchObject({ case: "settle", value: { outcome: { case: "backupDump" } } });
  const verified = await carryOut("op_4", { case: "verifyBackup", value: { backup } });
  expect(verified.result).toMatchObject({ case: "verifyBackup", value: { problems: [] } });

  const restore = create(RestoreDatabaseCommandSchema, {
    backup,
    connection,
    database: "orders",
    targetDatabase: "orders-copy",
    mode: RestoreMode.NEW,
    jobs: 2,
    stagedDatabase: "coppice_restore_op5",
  });
  const planned = await carryOut("op_5", { case: "planRestore", value: { restore } });
  expect(planned.failure).toBeUndefined();
  const restored = await carryOut("op_5", { case: "restoreDatabase", value: restore });
  expect(restored.failure).toBeUndefined();
  expect(restored.result).toMatchObject({ case: "restoreDatabase", value: { rows: 100n } });
  expect((await server.sql("orders-copy", "select count(*) from item")).trim()).toBe("100");
  const lostRestore = await carryOut("op_5", {
    case: "settle",
    value: { lost: { case: "restoreDatabase", value: restore } },
  });
  expect(lostRestore.result).toMatchObject({ case: "settle", value: { outcome: { case: "restoreDatabase" } } });

  const lostDelete = { lost: { case: "deleteBackup", value: { backup } } } as const;
  const notDeleted = await carryOut("op_6", { case: "settle", value: lostDelete });
  expect(notDeleted.result).toMatchObject({ case: "settle", value: { outcome: { case: undefined } } });
  const deleted = await carryOut("op_6", { case: "deleteBackup", value: { backup } });
  expect(deleted.result).toMatchObject({ case: "deleteBackup" });
  const isDeleted = await carryOut("op_6", { case: "settle", value: lostDelete });
  expect(isDeleted.result).toMatchObject({ case: "settle", value: { outcome: { case: "deleteBackup" } } });
  expect(messages.some((message) => message.case === "progress")).toBe(true);
});

test("a restore into a database that never came to its agent is not taken for done because the table was there", async () => {
  const dump = lab.dumpCommand({ databases: ["orders"] });
  expect((await carryOut("op_7", { case: "backupDump", value: dump })).failure).toBeUndefined();
  const { backup, connection } = dump;
  const restore = create(RestoreDatabaseCommandSchema, {
    backup,
    connection,
    database: "orders",
    targetDatabase: "orders",
    mode: RestoreMode.INTO,
    stagedDatabase: "coppice_restore_op8",
  });
  const lost: Spec = { case: "settle", value: { lost: { case: "restoreDatabase", value: restore } } };
  const settled = await carryOut("op_8", lost);
  expect(settled.failure).toMatchObject({ reason: "OUTCOME_UNKNOWN" });
  expect(settled.result.case).not.toBe("restoreDatabase");
  // Once it has come there it is known, even where it got no farther than its repository.
  const elsewhere = clone(RestoreDatabaseCommandSchema, restore);
  const place = elsewhere.backup?.repository?.location?.kind;
  if (place?.case !== "filesystem") throw new Error("the repository is no folder");
  place.value.path += "/not-there";
  const failed = await carryOut("op_8", { case: "restoreDatabase", value: elsewhere });
  expect(failed.failure).toMatchObject({ reason: "REPOSITORY_UNREACHABLE" });
  expect((await carryOut("op_8", lost)).result).toMatchObject({
    case: "settle",
    value: { outcome: { case: undefined } },
  });
  expect((await server.sql("orders", "select count(*) from item")).trim()).toBe("100");
});
