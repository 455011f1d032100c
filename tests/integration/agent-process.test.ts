import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import type { SessionRequest } from "@coppice/proto/gen/coppice/agent/v1/session";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { makeTestAuthority } from "../support/agent-authority.ts";
import { type ServedAgentService, type ServedSession, serveAgentService } from "../support/agent-service.ts";

const main = fileURLToPath(new URL("../../agent/src/main.ts", import.meta.url));
const patient = { timeout: 20_000, interval: 20 };

let service: ServedAgentService;
let folder: string;
let dataDirectory: string;
let stack: AsyncDisposableStack;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  folder = await mkdtemp(join(tmpdir(), "coppice-agent-"));
  dataDirectory = join(folder, "data");
  stack.defer(() => rm(folder, { recursive: true }));
  // Long enough that a test's server, which sends no heartbeat, is not given up.
  service = stack.use(await serveAgentService(await makeTestAuthority(), { heartbeatMs: 20_000 }));
});

afterEach(async () => {
  await stack.disposeAsync();
});

function start(...args: string[]) {
  const child = spawn(process.execPath, [main, ...args], { stdio: "pipe", env: { PATH: process.env["PATH"] } });
  const exit = once(child, "exit");
  stack.defer(async () => {
    child.kill("SIGKILL");
    await exit;
  });
  const output = { stdout: text(child.stdout), stderr: text(child.stderr) };
  return { child, exit, output };
}

async function run(input: string, ...args: string[]) {
  const { child, exit, output } = start(...args, "--data-dir", dataDirectory);
  child.stdin.end(input);
  const [code] = (await exit) as [number | null];
  return { code, stdout: await output.stdout, stderr: await output.stderr };
}

/** The threads that calls into file systems wait in. */
async function poolThreads(pid = 0): Promise<number> {
  const threads = await readdir(`/proc/${pid}/task`);
  const names = await Promise.all(threads.map((id) => readFile(`/proc/${pid}/task/${id}/comm`, "utf8")));
  return names.filter((name) => name.startsWith("libuv-worker")).length;
}

async function session(index: number): Promise<ServedSession> {
  return await vi.waitFor(() => {
    const found = service.sessions[index];
    if (!found) throw new Error(`no session ${index} yet`);
    return found;
  }, patient);
}

async function message(from: ServedSession, name: SessionRequest["message"]["case"]) {
  return await vi.waitFor(() => {
    const found = from.received.find((request) => request.message.case === name);
    if (!found) throw new Error(`no ${name} yet`);
    return found.message.value;
  }, patient);
}

describe("coppice-agent", () => {
  test("enrols by a token on standard input, and says what is wrong otherwise", async () => {
    expect(await run("nonsense", "enroll", "-")).toMatchObject({ code: 2, stdout: "" });
    expect(await run("", "run")).toMatchObject({ code: 4 });
    const { code, stdout, stderr } = await run(service.token, "enroll", "-");
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toContain(`enrolled as db7 (hst_test) at ${service.address}`);
    expect(await run(service.token, "enroll", "-")).toMatchObject({ code: 4 });
    expect((await run("", "check")).stdout).toContain(`control plane: ${service.address} answers`);
  });

  test("checks a repository, answers for it after kill -9, and leaves with a Goodbye at SIGTERM", async () => {
    await run(service.token, "enroll", "-");
    const repository = join(folder, "repository");
    await mkdir(repository);
    const first = start("run", "--data-dir", dataDirectory);
    const one = await session(0);
    await message(one, "hello");
    expect(await poolThreads(first.child.pid)).toBe(32);
    const second = await run("", "run");
    expect(second).toMatchObject({ code: 4 });
    expect(second.stderr).toContain("another agent runs with the folder");

    one.send({
      case: "command",
      value: {
        commandId: "cmd_1",
        operationId: "op_1",
        attempt: 1,
        fence: { incarnation: 1n, number: 1n },
        secrets: [{ id: "sec_1", value: "a-secret-value" }],
        spec: {
          case: "checkRepository",
          value: {
            repository: {
              repositoryId: "rep_1",
              name: "main",
              location: { kind: { case: "filesystem", value: { path: repository } } },
            },
          },
        },
      },
    });
    expect(await message(one, "accepted")).toMatchObject({ commandId: "cmd_1" });
    const result = await message(one, "result");
    expect(result).toMatchObject({ result: { case: "checkRepository" } });
    first.child.kill("SIGKILL");
    await first.exit;

    const third = start("run", "--data-dir", dataDirectory);
    const two = await session(1);
    expect(await message(two, "hello")).toMatchObject({ inFlight: [{ commandId: "cmd_1", hasResult: true }] });
    expect(await message(two, "result")).toEqual(result);
    two.send({ case: "ack", value: { commandId: "cmd_1" } });
    third.child.kill("SIGTERM");
    expect(await third.exit).toEqual([0, null]);
    expect(await message(two, "goodbye")).toMatchObject({ reason: "shutdown" });

    const journal = await readFile(join(dataDirectory, "journal/commands.jsonl"), "utf8");
    const logs = (await first.output.stderr) + (await third.output.stderr);
    expect(journal + logs).not.toContain("a-secret-value");
    expect(logs).toContain("agent ends");
  });
});
