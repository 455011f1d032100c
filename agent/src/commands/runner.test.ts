// One thing: how commands are run and told of, once whatever happens in between.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { type Command, CommandSchema, type Result } from "@coppice/proto/gen/coppice/agent/v1/command";
import { DeleteBackupResultSchema } from "@coppice/proto/gen/coppice/agent/v1/delete_backup";
import { CancelSchema } from "@coppice/proto/gen/coppice/agent/v1/session";
import { SettleResultSchema } from "@coppice/proto/gen/coppice/agent/v1/settle";
import { fail } from "@coppice/proto/kit/failure";
import { openLog } from "@coppice/proto/kit/log";
import { sleep } from "@coppice/proto/kit/sleep";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { type Journal, openJournal } from "../journal/journal.ts";
import type { CommandContext, Handlers } from "./handler.ts";
import type { AgentMessage } from "./reporter.ts";
import { type CommandRunner, openRunner } from "./runner.ts";
import { openBudget, usualBudgetBytes } from "../budget.ts";

const never = async (): Promise<never> => fail("INTERNAL", "not part of this test");

let folder: string;
let stack: AsyncDisposableStack;
let messages: AgentMessage[];

beforeEach(async () => {
  folder = await mkdtemp(`${tmpdir()}/coppice-runner-`);
  messages = [];
  stack = new AsyncDisposableStack();
  stack.defer(() => rm(folder, { recursive: true }));
});

afterEach(async () => {
  await stack.disposeAsync();
});

type DeleteHandler = Handlers["deleteBackup"];

async function open(deleteBackup: DeleteHandler, settle: Handlers["settle"] = never): Promise<CommandRunner> {
  const journal: Journal = stack.use(await openJournal(folder));
  const handlers: Handlers = {
    checkCluster: never,
    checkRepository: never,
    backupDump: never,
    backupPhysical: never,
    planPhysical: never,
    restorePhysical: never,
    recoverPart: never,
    planPart: never,
    decideRestore: never,
    verifyBackup: never,
    verifyWal: never,
    cleanWal: never,
    planRestore: never,
    restoreDatabase: never,
    restoreGlobals: never,
    scanRepository: never,
    cleanRepository: never,
    deleteBackup,
    settle,
  };
  const log = openLog({ level: "silent", name: "agent" });
  const report = (message: AgentMessage) => void messages.push(message);
  return stack.use(
    openRunner({
      handlers,
      journal,
      report,
      workFolder: folder,
      chainFolder: folder,
      walFolder: folder,
      agentVersion: "0",
      clientFiles: { home: "/nonexistent" },
      budget: openBudget(usualBudgetBytes),
      log,
    }),
  );
}

function command(id: string, { fence = 1n, settle = false, deadlineMs = 0 } = {}): Command {
  return create(CommandSchema, {
    commandId: id,
    operationId: "op_1",
    attempt: 1,
    fence: { incarnation: 1n, number: fence },
    secrets: [{ id: "sec_1", value: "hunter2" }],
    ...(deadlineMs ? { deadline: timestampFromMs(deadlineMs) } : {}),
    spec: settle
      ? { case: "settle", value: { lost: { case: "deleteBackup", value: {} } } }
      : { case: "deleteBackup", value: { keys: ["a"] } },
  });
}

function results(): Result[] {
  return messages.flatMap(({ case: name, value }) => (name === "result" ? [value as Result] : []));
}

async function resultOf(id: string): Promise<Result> {
  return await vi.waitFor(() => {
    const found = results().find(({ commandId }) => commandId === id);
    if (!found) throw new Error(`no result of ${id} yet`);
    return found;
  }, 15_000);
}

const untilAborted: DeleteHandler = async (_spec, { signal, progress }) => {
  progress({ phase: "waiting" });
  await sleep(60_000, signal);
  return {};
};

const deleteOne: DeleteHandler = async () => ({ result: create(DeleteBackupResultSchema, { objects: 1 }) });

describe("a command", () => {
  test("is accepted, carried out once, and its result told to each new session until it is acknowledged", async () => {
    let calls = 0;
    const runner = await open(async (spec, context) => {
      calls++;
      context.log("a line");
      return await deleteOne(spec, context);
    });
    runner.begin(command("cmd_1"));
    const result = await resultOf("cmd_1");
    expect(result.result).toMatchObject({ case: "deleteBackup", value: { objects: 1 } });
    expect(messages.map(({ case: name }) => name)).toEqual(["accepted", "logChunk", "result"]);

    messages = [];
    runner.begin(command("cmd_1"));
    expect(await resultOf("cmd_1")).toEqual(result);
    expect(calls).toBe(1);
    expect(runner.inFlight()).toMatchObject([{ commandId: "cmd_1", hasResult: true }]);
    expect(runner.replay().map(({ case: name }) => name)).toEqual(["logChunk", "result"]);

    runner.acknowledge("cmd_1");
    await vi.waitFor(() => expect(runner.replay()).toEqual([]));
    expect(runner.inFlight()).toEqual([]);
  });

  test("whose result is larger than the control plane takes ends as a failure, told now and to each new session", async () => {
    const runner = await open(async () => ({
      result: create(DeleteBackupResultSchema, { stays: "k".repeat(65 * 1024 * 1024) }),
    }));
    runner.begin(command("cmd_1"));
    const { result, failure } = await resultOf("cmd_1");
    expect(result.case).toBeUndefined();
    expect(failure).toMatchObject({
      reason: "RESULT_TOO_LARGE",
      message: expect.stringMatching(
        /^the result of deleteBackup is 68\d{6} bytes long, more than 66060288$/,
      ) as string,
    });
    expect(runner.replay()).toMatchObject([{ case: "logChunk" }, { case: "result", value: { failure } }]);
  });

  test("that is cancelled stops and says so, and one of a newer fence is left alone", async () => {
    const runner = await open(untilAborted);
    runner.begin(command("cmd_1", { fence: 3n }));
    await vi.waitFor(() => expect(messages.at(-1)?.case).toBe("progress"));
    runner.cancel(create(CancelSchema, { operationId: "op_1", fence: { incarnation: 1n, number: 2n } }));
    runner.cancel(create(CancelSchema, { operationId: "op_2", fence: { incarnation: 1n, number: 9n } }));
    expect(runner.inFlight()).toMatchObject([{ commandId: "cmd_1", hasResult: false }]);
    runner.cancel(create(CancelSchema, { operationId: "op_1", fence: { incarnation: 1n, number: 3n } }));
    const result = await resultOf("cmd_1");
    expect(result).toMatchObject({ cancelled: true });
    expect(result.failure).toBeUndefined();
  });

  test("that is cancelled before it begins does not begin", async () => {
    const runner = await open(deleteOne);
    runner.begin(command("cmd_1"));
    runner.cancel(create(CancelSchema, { operationId: "op_1" }));
    expect(await resultOf("cmd_1")).toMatchObject({ cancelled: true, result: { case: undefined } });
  });

  test("is over at its deadline and still says, in its log too, what it could not clear away", async () => {
    const runner = await open(async (spec, context) => {
      context.leaving("a file");
      return await untilAborted(spec, context);
    });
    runner.begin(command("cmd_1", { deadlineMs: Date.now() + 50 }));
    const result = await resultOf("cmd_1");
    expect(result.failure?.reason).toBe("DEADLINE_EXCEEDED");
    expect(result.leavings).toEqual(["a file"]);
    const lines = messages.flatMap((message) => (message.case === "logChunk" ? (message.value.lines ?? []) : []));
    expect(lines.map(({ text }) => text)).toEqual([
      expect.stringMatching(/^failed: it was not done by /),
      "left behind: a file",
    ]);
    expect(messages.at(-1)?.case).toBe("result");
  });

  test("of an older fence than a known one is refused", async () => {
    const runner = await open(deleteOne);
    runner.begin(command("cmd_1", { fence: 2n }));
    await resultOf("cmd_1");
    runner.begin(command("cmd_2", { fence: 1n }));
    expect((await resultOf("cmd_2")).failure?.reason).toBe("STALE_FENCE");
  });

  test("of a kind that this version does not know is refused", async () => {
    const runner = await open(deleteOne);
    const unknown = command("cmd_1");
    unknown.spec = { case: undefined };
    runner.begin(unknown);
    expect((await resultOf("cmd_1")).failure?.reason).toBe("CAPABILITY_MISSING");
  });

  test("that fails in an unexpected way says only a reference", async () => {
    const runner = await open(() => Promise.reject(new Error("with hunter2 in it")));
    runner.begin(command("cmd_1"));
    const { failure } = await resultOf("cmd_1");
    expect(failure?.reason).toBe("INTERNAL");
    expect(JSON.stringify(failure)).not.toContain("hunter2");
  });

  test("gets the secrets that came with it and no others", async () => {
    const seen: unknown[] = [];
    const runner = await open(async (_spec, { secret }: CommandContext) => {
      seen.push(secret("sec_1"), secret(""));
      secret("sec_2");
      return {};
    });
    runner.begin(command("cmd_1"));
    expect((await resultOf("cmd_1")).failure?.reason).toBe("SECRET_UNREADABLE");
    expect(seen).toEqual(["hunter2", undefined]);
  });

  test("that settles another waits until that one has come to rest", async () => {
    const order: string[] = [];
    const runner = await open(
      async (_spec, { signal }) => {
        order.push("work begins");
        await sleep(60_000, signal).catch(() => undefined);
        await new Promise(setImmediate);
        order.push("work has cleared away");
        return fail("INTERNAL", "aborted");
      },
      async () => {
        order.push("settle begins");
        return { result: create(SettleResultSchema) };
      },
    );
    runner.begin(command("cmd_1"));
    await vi.waitFor(() => expect(order).toEqual(["work begins"]));
    runner.begin(command("cmd_2", { settle: true }));
    runner.begin(command("cmd_3", { settle: true }));
    await Promise.all([resultOf("cmd_2"), resultOf("cmd_3")]);
    expect(order.slice(0, 3)).toEqual(["work begins", "work has cleared away", "settle begins"]);
  });

  test("is stopped with the agent, which takes no more", async () => {
    const runner = await open(untilAborted);
    runner.begin(command("cmd_1"));
    await vi.waitFor(() => expect(messages.at(-1)?.case).toBe("progress"));
    await runner.stop();
    runner.begin(command("cmd_2"));
    expect((await resultOf("cmd_1")).failure?.reason).toBe("AGENT_STOPPED");
    expect((await resultOf("cmd_2")).failure?.reason).toBe("AGENT_STOPPED");
  });
});
