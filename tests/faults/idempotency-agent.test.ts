// Each step of an agent twice: the same command delivered again, and the same work commanded again.
import { chmod, chown, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { type Command, CommandSchema, type Result } from "@coppice/proto/gen/coppice/agent/v1/command";
import { RestoreDatabaseCommandSchema, RestoreMode } from "@coppice/proto/gen/coppice/agent/v1/restore_database";
import { RestoreDecision } from "@coppice/proto/gen/coppice/common/v1/held_database";
import { openLog } from "@coppice/proto/kit/log";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { openBudget, usualBudgetBytes } from "../../agent/src/budget.ts";
import { handlers } from "../../agent/src/commands/registry.ts";
import type { AgentMessage } from "../../agent/src/commands/reporter.ts";
import { type CommandRunner, openRunner } from "../../agent/src/commands/runner.ts";
import { openJournal } from "../../agent/src/journal/journal.ts";
import { walKey } from "../../agent/src/repository/layout.ts";
import { openFilesystem } from "../../agent/src/storage/filesystem.ts";
import { type DumpLab, openDumpLab } from "../support/dumps/dump-lab.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";

type Spec = Exclude<NonNullable<MessageInitShape<typeof CommandSchema>["spec"]>, { case?: undefined }>;
type Case = Spec["case"];

const stack = new AsyncDisposableStack();
const messages: AgentMessage[] = [];
let server: PostgresServer;
let lab: DumpLab;
let runner: CommandRunner;
let specs: Record<string, Spec>;
let commands = 0;

beforeAll(async () => {
  server = stack.use(await openPostgresServer({ major: 18 }));
  await server.sql("postgres", "create database orders");
  for (const name of ["live", "coppice_restore_held"]) await server.sql("postgres", `create database ${name}`);
  await server.sql("orders", "create table item as select generate_series(1, 100) as id");
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
  const dump = lab.dumpCommand({ databases: ["orders"] });
  const { backup, connection } = dump;
  const repository = backup?.repository;
  if (!backup || !connection || !repository) throw new Error("the lab's command is not whole");
  const segment = walKey({ clusterId: backup.clusterId, systemIdentifier: "7" }, "000000010000000000000001");
  {
    await using storage = await openFilesystem(lab.repository, "op_test");
    const body = Readable.from([Buffer.from("WAL that nothing needs")]);
    await storage.put(segment, body, { signal: AbortSignal.timeout(10_000), ifAbsent: true });
  }
  const restore = create(RestoreDatabaseCommandSchema, {
    backup,
    connection,
    database: "orders",
    targetDatabase: "orders-copy",
    mode: RestoreMode.NEW,
    stagedDatabase: "coppice_restore_again",
  });
  const physical = { ...backup, backupId: "bkp_physical", folder: "20261121T100000Z_full_bkp_physical" };
  const place = await mkdtemp(join(tmpdir(), "coppice-again-"));
  stack.defer(() => rm(place, { recursive: true, force: true }));
  await chmod(place, 0o755);
  if (process.getuid?.() === 0) await chown(place, server.owner.uid, server.owner.gid);
  const directory = { chain: [physical], target: {}, dataDirectory: join(place, "data") };
  const scratch = join(place, "scratch");
  const part = {
    restore: { ...directory, dataDirectory: join(scratch, "data"), start: true },
    scratch,
    database: "orders",
    load: create(RestoreDatabaseCommandSchema, {
      file: { path: join(scratch, "part.dump") },
      connection,
      targetDatabase: "orders-then",
      mode: RestoreMode.NEW,
      stagedDatabase: "coppice_restore_part",
    }),
    live: connection,
    liveDatabase: "orders",
  };
  specs = {
    planPart: { case: "planPart", value: { part } },
    recoverPart: { case: "recoverPart", value: part },
    decideRestore: {
      case: "decideRestore",
      value: {
        connection,
        held: {
          name: "coppice_restore_held",
          oid: await oidOf("coppice_restore_held"),
          replacesOid: await oidOf("live"),
        },
        decision: RestoreDecision.SWAP,
        targetDatabase: "live",
        keptDatabase: "live-before",
      },
    },
    backupPhysical: {
      case: "backupPhysical",
      value: { connection, backup: physical, clusterName: "again", options: { walEmbedded: true } },
    },
    planPhysical: { case: "planPhysical", value: { restore: directory } },
    restorePhysical: { case: "restorePhysical", value: directory },
    checkCluster: { case: "checkCluster", value: { connection } },
    checkRepository: { case: "checkRepository", value: { repository } },
    backupDump: { case: "backupDump", value: dump },
    verifyBackup: { case: "verifyBackup", value: { backup } },
    verifyWal: {
      case: "verifyWal",
      value: { repository, clusterId: backup.clusterId, systemIdentifier: "7", segmentBytes: 16_777_216n },
    },
    cleanWal: {
      case: "cleanWal",
      value: {
        repository,
        clusterId: backup.clusterId,
        systemIdentifier: "7",
        segmentBytes: 16_777_216n,
        runs: [{ timeline: 1, startLsn: "0/1000000", endLsn: "0/2000000" }],
      },
    },
    planRestore: { case: "planRestore", value: { restore } },
    restoreDatabase: { case: "restoreDatabase", value: restore },
    restoreGlobals: { case: "restoreGlobals", value: { backup, connection: restore.connection } },
    scanRepository: { case: "scanRepository", value: { repository } },
    cleanRepository: {
      case: "cleanRepository",
      value: { repository, before: timestampFromDate(new Date(Date.now() + 3_600_000)) },
    },
    deleteBackup: { case: "deleteBackup", value: { backup } },
    settle: { case: "settle", value: { lost: { case: "deleteBackup", value: { backup } } } },
  };
});
afterAll(() => stack.disposeAsync());

const oidOf = async (name: string) =>
  Number(await server.sql("postgres", `select oid from pg_database where datname = '${name}'`));

function newCommand(spec: Spec): Command {
  commands++;
  return create(CommandSchema, {
    commandId: `cmd_${commands}`,
    operationId: `op_${commands}`,
    attempt: 1,
    fence: { incarnation: 1n, number: BigInt(commands) },
    secrets: [{ id: "sec_test", value: server.password }],
    spec,
  });
}

const resultsOf = ({ commandId }: Command) =>
  messages.flatMap(({ case: name, value }) =>
    name === "result" && value.commandId === commandId ? [value as Result] : [],
  );

/** Sends a command and waits for one more result of it. */
async function send(command: Command): Promise<Result> {
  const before = resultsOf(command).length;
  runner.begin(command);
  return await vi.waitFor(
    () => {
      const result = resultsOf(command)[before];
      if (!result) throw new Error(`no result of ${command.commandId} yet`);
      return result;
    },
    { timeout: 40_000, interval: 10 },
  );
}

/** All that steps change: the files of the repository, the databases of the server. */
async function world(): Promise<unknown> {
  const entries = await readdir(lab.repository, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map(({ parentPath, name }) => join(parentPath, name));
  const databases = await server.sql("postgres", "select oid, datname from pg_database order by oid");
  return { files: files.toSorted(), databases };
}

/** What a second command for work that was done already comes to; a reason where it has to be refused. */
const second: Partial<Record<Case, string>> = {
  // Another attempt of the same backup meets the objects of the first one, and harms none.
  backupDump: "OBJECT_EXISTS",
  restoreDatabase: "DATABASE_EXISTS",
  backupPhysical: "OBJECT_EXISTS",
  restorePhysical: "DIRECTORY_NOT_EMPTY",
  recoverPart: "DATABASE_EXISTS",
};

test("every command that this agent knows is one of these steps", () => {
  expect(Object.keys(specs).toSorted()).toEqual(Object.keys(handlers).toSorted());
});

test.each([
  "checkCluster",
  "checkRepository",
  "backupDump",
  "verifyBackup",
  "cleanWal",
  "verifyWal",
  "planRestore",
  "restoreDatabase",
  "restoreGlobals",
  "scanRepository",
  "cleanRepository",
  "backupPhysical",
  "planPhysical",
  "restorePhysical",
  "planPart",
  "recoverPart",
  "decideRestore",
  "deleteBackup",
  "settle",
])("%s delivered twice is done once, and done twice harms nothing", async (name) => {
  const spec = specs[name];
  if (!spec) throw new Error(`there is no ${name}`);
  const command = newCommand(spec);
  const first = await send(command);
  expect(first.failure).toBeUndefined();
  const after = await world();
  // From the journal: the same answer, to the byte, and nothing was done for it.
  const begun = performance.now();
  expect(await send(command)).toEqual(first);
  expect(performance.now() - begun).toBeLessThan(5000);
  expect(await world()).toEqual(after);
  // As a new command, which knows nothing of the first one.
  const again = await send(newCommand(spec));
  expect(again.failure?.reason).toBe(second[spec.case]);
  expect(await world()).toEqual(after);
  expect(again.result.case).toBe(second[spec.case] === undefined ? first.result.case : undefined);
});
