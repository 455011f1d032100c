// What a restore into a database that was there, killed at any of its steps, has done, and what settling says of it.
import { create, toJsonString } from "@bufbuild/protobuf";
import {
  type RestoreDatabaseCommand,
  RestoreDatabaseCommandSchema,
  type RestoreDatabaseResult,
  RestoreMode,
} from "@coppice/proto/gen/coppice/agent/v1/restore_database";
import { DumpContents } from "@coppice/proto/gen/coppice/common/v1/dump_options";
import { RestoreSelectionSchema } from "@coppice/proto/gen/coppice/common/v1/restore_selection";
import { isFailure } from "@coppice/proto/kit/failure";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Dumped } from "../../agent/src/logical/dump/dump.ts";
import type { IntoProgress } from "../../agent/src/logical/into/transaction.ts";
import { type Settled, settleRestore } from "../../agent/src/logical/settle.ts";
import { openStorage } from "../../agent/src/storage/open.ts";
import { type DumpLab, openDumpLab } from "../support/dumps/dump-lab.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";
import { runProgram } from "../support/run-program.ts";

const dyingRestore = new URL("../support/dumps/restore-and-die.ts", import.meta.url).pathname;
let server: PostgresServer;
let lab: DumpLab;
let dumped: Dumped;

beforeAll(async () => {
  server = await openPostgresServer({ major: 18 });
  lab = await openDumpLab(server);
  await server.sql("postgres", "create database shop");
  await server.sql("shop", "create table sold as select i, md5(i::text) as note from generate_series(1, 20000) i");
  dumped = await lab.dump(lab.dumpCommand({ databases: ["shop"] }));
});
afterAll(async () => {
  await lab?.[Symbol.asyncDispose]();
  await server?.[Symbol.asyncDispose]();
});

/** Other people's table stays as it is, whatever happens. */
beforeEach(async () => {
  await server.sql("postgres", "drop database if exists live with (force)");
  await server.sql("postgres", "create database live");
  await server.sql("live", "create table own as select 1 as id");
});
const makeEmptyTable = () => server.sql("live", "create table sold (i int, note text)");
/** A commit that takes its time: what is deferred to it waits. */
const slowCommit = `create function wait() returns trigger language plpgsql as $x$ begin perform pg_sleep(60); return null; end $x$;
  create constraint trigger waits after insert on sold deferrable initially deferred for each row execute function wait()`;

const intoLive = (contents: DumpContents): RestoreDatabaseCommand =>
  create(RestoreDatabaseCommandSchema, {
    ...lab.restoreCommand(dumped, "shop", "live", RestoreMode.INTO),
    selection: create(RestoreSelectionSchema, { contents }),
  });

/** Restores in a process of its own, which kills itself at the step; gives what it had noted by then. */
async function restoreAndDie(step: string, command: RestoreDatabaseCommand): Promise<IntoProgress | undefined> {
  const ended = await runProgram(process.execPath, [dyingRestore, step, lab.workFolder, lab.files.home], {
    env: { PATH: "/usr/bin:/bin", PGTESTPASSWORD: server.password },
    input: toJsonString(RestoreDatabaseCommandSchema, command),
  });
  if (ended.signal !== "SIGKILL") throw new Error(`the restore was not killed: ${ended.stderr}`);
  const last = ended.stdout.trimEnd().split("\n").at(-1);
  return last ? (JSON.parse(last) as IntoProgress) : undefined;
}

async function settle(
  command: RestoreDatabaseCommand,
  into: IntoProgress | undefined,
): Promise<Settled<RestoreDatabaseResult> | "unknown"> {
  const location = command.backup?.repository?.location;
  if (!location) throw new Error("no repository");
  const signal = AbortSignal.timeout(30_000);
  await using storage = await openStorage(location, { operationId: "op_look", signal });
  const { password } = server;
  const { files, workFolder } = lab;
  const lost = { command, password, identities: undefined, files, storage, workFolder, signal };
  return await settleRestore({ ...lost, stagedOid: undefined, into }).catch((error: unknown) => {
    if (isFailure(error, "OUTCOME_UNKNOWN")) return "unknown";
    throw error;
  });
}

/** How many rows are there; none where there is no table. */
async function rows(): Promise<string> {
  expect(await server.sql("live", "select count(*) from own")).toBe("1");
  if ((await server.sql("live", "select to_regclass('sold')")) === "") return "0";
  return await server.sql("live", "select count(*) from sold");
}
const sessions = () =>
  server.sql("postgres", "select count(*) from pg_stat_activity where application_name ~ '^coppice'");

describe.each([
  ["rows alone", DumpContents.DATA_ONLY, ["looking", "loading", "restoring", "transaction", "committed", "comparing"]],
  ["tables and rows", DumpContents.ALL, ["loading", "transaction", "committed", "done"]],
  // Of which pg_restore reads only the beginning.
  ["tables alone", DumpContents.SCHEMA_ONLY, ["committed"]],
] as const)("of %s", (_what, contents, steps) => {
  test.each(steps)("killed at the step %s it is settled as what the database holds", async (step) => {
    if (contents === DumpContents.DATA_ONLY) await makeEmptyTable();
    // So that its transaction is seen before it ends.
    if (step === "transaction" && contents === DumpContents.DATA_ONLY) await server.sql("live", slowCommit);
    const command = intoLive(contents);
    const into =
      step === "transaction" && contents !== DumpContents.DATA_ONLY
        ? await dieSlowly(command)
        : await restoreAndDie(step, command);
    const settled = await settle(command, into);
    expect(await sessions()).toBe("0");
    const isThere =
      (await server.sql(
        "live",
        contents === DumpContents.DATA_ONLY
          ? "select exists (select from sold)"
          : "select to_regclass('sold') is not null",
      )) === "t";
    const isBehind = ["committed", "comparing", "done"].includes(step);
    expect(isThere).toBe(isBehind);
    // A transaction that nobody has seen yet can be known by what it makes, and not by rows.
    const isBlind =
      contents === DumpContents.DATA_ONLY &&
      ["loading", "restoring"].includes(step) &&
      into?.is === "loading" &&
      into.xid === undefined;
    const found = contents === DumpContents.SCHEMA_ONLY ? 0n : 20_000n;
    const committed = { outcome: expect.objectContaining({ database: "live", rows: found }) as unknown, removed: [] };
    expect(settled).toEqual(isBlind ? "unknown" : isBehind ? committed : { outcome: undefined, removed: [] });
    expect(await rows()).toBe(isBehind && contents !== DumpContents.SCHEMA_ONLY ? "20000" : "0");
  });
});

/** An event trigger holds the transaction that makes the table, until its process is killed. */
async function dieSlowly(command: RestoreDatabaseCommand): Promise<IntoProgress | undefined> {
  await server.sql(
    "live",
    `create function wait() returns event_trigger language plpgsql as $x$ begin perform pg_sleep(60); end $x$;
     create event trigger waits on ddl_command_end when tag in ('CREATE TABLE') execute function wait()`,
  );
  return await restoreAndDie("transaction", command);
}

test("what was there before and is alike is not taken for what the restore has made", async () => {
  await server.sql("live", "create table sold as select i, md5(i::text) as note from generate_series(1, 20000) i");
  const command = intoLive(DumpContents.ALL);
  expect(await settle(command, await restoreAndDie("looking", command))).toEqual({ outcome: undefined, removed: [] });
});

test("a restore of rows that is cancelled ends with nothing there, and one behind its commit is never told as undone", async () => {
  await makeEmptyTable();
  const cancel = async (isMoment: (phase: string, into: IntoProgress | undefined) => boolean) => {
    const command = intoLive(DumpContents.DATA_ONLY);
    const controller = new AbortController();
    const reason = new Error("cancelled");
    let into: IntoProgress | undefined = { is: "looking" };
    const look = (phase: string) => {
      if (isMoment(phase, into)) controller.abort(reason);
    };
    const error: unknown = await lab
      .restore(command, {
        signal: controller.signal,
        onProgress: ({ phase }) => look(phase),
        async onInto(progress) {
          into = progress;
          look("");
        },
      })
      .catch((thrown: unknown) => thrown);
    return { error, settled: await settle(command, into), reason };
  };
  const early = await cancel((phase) => phase === "preflight");
  expect(early).toMatchObject({ error: early.reason, settled: { outcome: undefined } });
  const late = await cancel((phase) => phase === "comparing");
  expect(late.error).toMatchObject({ reason: "OUTCOME_UNKNOWN" });
  expect(late.settled).toMatchObject({ outcome: { rows: 20_000n } });
  expect(await rows()).toBe("20000");

  await server.sql("live", `truncate sold; ${slowCommit}`);
  const middle = await cancel((_phase, into) => into?.is === "loading" && into.xid !== undefined);
  expect(middle).toMatchObject({ error: middle.reason, settled: { outcome: undefined } });
  expect(await rows()).toBe("0");
});

test("a server that crashes under a restore of rows is asked what it has kept", async () => {
  await makeEmptyTable();
  await server.sql("live", slowCommit);
  const command = intoLive(DumpContents.DATA_ONLY);
  let into: IntoProgress | undefined;
  let crashed: Promise<void> | undefined;
  const crash = async () => {
    await server.stop("immediate");
    await server.start();
  };
  const error: unknown = await lab
    .restore(command, {
      async onInto(progress) {
        into = progress;
        if (progress.is === "loading" && progress.xid !== undefined) crashed ??= crash();
      },
    })
    .catch((thrown: unknown) => thrown);
  await crashed;
  expect(isFailure(error) && error.reason).toMatch(/^(OUTCOME_UNKNOWN|PROGRAM_FAILED)$/);
  expect(await settle(command, into)).toEqual({ outcome: undefined, removed: [] });
  expect(await rows()).toBe("0");
});
