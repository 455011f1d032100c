// One file, because every test needs the same agent and the same odd end of the control plane.

import { constants } from "node:fs";
import { link, mkdir, mkdtemp, open, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { create } from "@bufbuild/protobuf";
import { DeleteBackupResultSchema } from "@coppice/proto/gen/coppice/agent/v1/delete_backup";
import { FoundClusterSchema } from "@coppice/proto/gen/coppice/agent/v1/found_cluster";
import type { SessionRequest } from "@coppice/proto/gen/coppice/agent/v1/session";
import { formatEnrolmentToken, parseEnrolmentToken } from "@coppice/proto/kit/enrolment-token";
import { fail } from "@coppice/proto/kit/failure";
import { openLog } from "@coppice/proto/kit/log";
import { sleep } from "@coppice/proto/kit/sleep";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { Handlers } from "../../agent/src/commands/handler.ts";
import { openRunner } from "../../agent/src/commands/runner.ts";
import { enrolAgent } from "../../agent/src/enroll.ts";
import { openJournal } from "../../agent/src/journal/journal.ts";
import { discoverClusters } from "../../agent/src/postgres/discover.ts";
import type { Discover } from "../../agent/src/session/inventory.ts";
import { readIdentity } from "../../agent/src/session/identity.ts";
import { keepLink } from "../../agent/src/session/link.ts";
import type { Outbox } from "../../agent/src/session/outbox.ts";
import { makeTestAuthority, type TestAuthority } from "../support/agent-authority.ts";
import { type ServedAgentService, type ServedSession, serveAgentService } from "../support/agent-service.ts";
import { runProgram } from "../support/run-program.ts";
import { openBudget, usualBudgetBytes } from "../../agent/src/budget.ts";

const heartbeatMs = 200;
const patient = { timeout: 10_000, interval: 10 };
const never = async (): Promise<never> => fail("INTERNAL", "not part of this test");

let authority: TestAuthority;
let service: ServedAgentService;
let folder: string;
let stack: AsyncDisposableStack;
/** Positions up to which a segment was asked to be ended. */
let asked: string[];

beforeEach(async () => {
  asked = [];
  stack = new AsyncDisposableStack();
  folder = await mkdtemp(join(tmpdir(), "coppice-link-"));
  stack.defer(() => rm(folder, { recursive: true }));
  authority = await makeTestAuthority();
  service = stack.use(await serveAgentService(authority, { heartbeatMs }));
});

afterEach(async () => {
  await stack.disposeAsync();
});

function enrol(token: string, replace = false) {
  const config = { dataDirectory: join(folder, "agent"), logLevel: "silent" } as const;
  return enrolAgent({ config, replace, input: Readable.from([`${token}\n`]) }, AbortSignal.timeout(10_000));
}

const findOne: Discover = async () => [create(FoundClusterSchema, { port: 5432, running: true })];

/** Runs an agent of one handler until `stop` or the end of the test. */
async function startAgent(deleteBackup: Handlers["deleteBackup"], discover: Discover = findOne) {
  const identity = await readIdentity(join(folder, "agent"));
  const journal = stack.use(await openJournal(join(folder, "agent")));
  const log = openLog({ level: "silent", name: "agent" });
  let outbox: Outbox | undefined;
  const runner = openRunner({
    handlers: {
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
      settle: never,
    },
    journal,
    report: (message) => outbox?.put(message),
    workFolder: folder,
    chainFolder: folder,
    walFolder: folder,
    agentVersion: "0.0.1",
    clientFiles: { home: "/nonexistent" },
    budget: openBudget(usualBudgetBytes),
    log,
  });
  const leaving = new AbortController();
  const linked = keepLink(
    {
      identity,
      agentVersion: "0.0.1",
      bootId: "boot",
      capabilities: ["deleteBackup"],
      runner,
      kept: {
        revision: 0n,
        take: () => {},
        acknowledge: () => {},
        endSegment: ({ lsn }) => void asked.push(lsn),
        reports: () => [],
        repeat: () => {},
      },
      discover,
      onOutbox: (opened) => (outbox = opened),
      log,
    },
    leaving.signal,
  );
  const stop = async () => {
    await runner.stop();
    leaving.abort();
    await linked;
  };
  stack.defer(stop);
  return { stop };
}

const deleteOne: Handlers["deleteBackup"] = async () => ({ result: create(DeleteBackupResultSchema, { objects: 1 }) });

async function session(index: number): Promise<ServedSession> {
  return await vi.waitFor(() => service.sessions[index] ?? fail("INTERNAL", "no such session yet"), patient);
}

async function message(from: ServedSession, name: SessionRequest["message"]["case"]) {
  return await vi.waitFor(() => {
    const found = from.received.find((request) => request.message.case === name);
    if (!found) throw new Error(`no ${name} yet`);
    return found;
  }, patient);
}

const deleteCommand = {
  case: "command",
  value: {
    commandId: "cmd_1",
    operationId: "op_1",
    attempt: 1,
    fence: { incarnation: 1n, number: 1n },
    spec: { case: "deleteBackup", value: {} },
  },
} as const;

describe("enrolment", () => {
  test("keeps key, certificate, roots and addresses in one file for its owner alone", async () => {
    const identity = await enrol(service.token);
    expect(identity).toMatchObject({ hostId: "hst_test", hostName: "db7", addresses: [service.address] });
    const file = join(folder, "agent/identity.json");
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    expect(await readIdentity(join(folder, "agent"))).toEqual(identity);
    expect(await readFile(file, "utf8")).not.toContain(parseEnrolmentToken(service.token).secret);
  });

  test("is not overwritten unless that is asked for", async () => {
    const first = await enrol(service.token);
    await expect(enrol(service.token)).rejects.toMatchObject({ reason: "ALREADY_ENROLLED" });
    expect(await readIdentity(join(folder, "agent"))).toEqual(first);
    expect((await enrol(service.token, true)).privateKeyPem).not.toBe(first.privateKeyPem);
  });

  test("sends nothing to a server whose chain lacks the token's root", async () => {
    const token = formatEnrolmentToken({ ...parseEnrolmentToken(service.token), ca: `sha256:${"0".repeat(64)}` });
    await expect(enrol(token)).rejects.toMatchObject({ reason: "CERTIFICATE_UNTRUSTED" });
  });

  test("goes on to the next address when one does not answer, and remembers first the one that did", async () => {
    const token = parseEnrolmentToken(service.token);
    const dead = "https://127.0.0.1:1";
    const identity = await enrol(formatEnrolmentToken({ ...token, addresses: [dead, ...token.addresses] }));
    expect(identity.addresses).toEqual([service.address, dead]);
    const all = formatEnrolmentToken({ ...token, addresses: [dead] });
    await expect(enrol(all, true)).rejects.toMatchObject({ reason: "CONTROL_PLANE_UNREACHABLE" });
  });
});

describe("a session", () => {
  beforeEach(async () => {
    await enrol(service.token);
  });

  test("begins with Hello, tells the inventory, and then gives signs of life", async () => {
    await startAgent(deleteOne);
    const first = await session(0);
    const { message: hello, sequence } = await message(first, "hello");
    expect(sequence).toBe(1n);
    expect(hello.value).toMatchObject({ bootId: "boot", capabilities: ["deleteBackup"], inFlight: [] });
    const { message: inventory, sessionEpoch } = await message(first, "inventory");
    expect(sessionEpoch).toBe(1n);
    expect(inventory.value).toMatchObject({ last: true, resources: { value: { clusters: [{ port: 5432 }] } } });
    await message(first, "heartbeat");
    expect(first.received.map((request) => request.sequence)).toEqual(
      first.received.map((_, index) => BigInt(index + 1)),
    );
  });

  test("passes on which segment of WAL is waited for", async () => {
    await startAgent(deleteOne);
    const first = await session(0);
    first.send({ case: "endSegment", value: { clusterId: "cls_1", timeline: 1, lsn: "0/2000120" } });
    await expect.poll(() => asked, patient).toEqual(["0/2000120"]);
  });

  test("is given up after two missed heartbeats and made anew", async () => {
    await startAgent(deleteOne);
    const first = await session(0);
    // The test's server sends no heartbeat at all.
    await session(1);
    await vi.waitFor(() => expect(first.hasEnded()).toBe(true), patient);
  });

  test("is made anew while a data directory hangs; no second look begins, and the first is told at last", async () => {
    const directory = join(folder, "data");
    const [version, pipe] = [join(directory, "PG_VERSION"), join(directory, "pipe")];
    await mkdir(directory);
    await mkdir(join(folder, "postgresql/17/main"), { recursive: true });
    await writeFile(join(folder, "postgresql/17/main/postgresql.conf"), `data_directory = '${directory}'\n`);
    // Who opens it hangs until somebody writes.
    await runProgram("mkfifo", [version], { env: process.env });
    await link(version, pipe);
    let looks = 0;
    await startAgent(deleteOne, async (signal) => {
      looks++;
      return await discoverClusters(signal, join(folder, "postgresql"));
    });
    const release = async () => {
      await using opened = await open(pipe, constants.O_RDWR | constants.O_NONBLOCK);
      await opened.write("17\n");
    };
    stack.defer(release);
    const first = await session(0);
    await message(first, "heartbeat");
    first.cut();
    await message(await session(1), "heartbeat");
    expect(looks).toBe(1);
    const told = () => service.sessions.flatMap(({ received }) => received.map((request) => request.message));
    expect(told().map(({ case: name }) => name)).not.toContain("inventory");
    await rm(version);
    await writeFile(version, "17\n");
    await release();
    const cluster = expect.objectContaining({ dataDirectory: directory, major: 17 }) as unknown;
    const clusters = expect.arrayContaining([cluster]) as unknown;
    const inventory = expect.objectContaining({
      resources: { case: "clusters", value: expect.objectContaining({ clusters }) as unknown },
    }) as unknown;
    await expect.poll(told, patient).toContainEqual({ case: "inventory", value: inventory });
  });

  test("tells a result again after a reconnect until it is acknowledged", async () => {
    await startAgent(deleteOne);
    const first = await session(0);
    await message(first, "hello");
    first.send(deleteCommand);
    await message(first, "result");
    first.cut();
    const second = await session(1);
    const { message: hello } = await message(second, "hello");
    expect(hello.value).toMatchObject({ inFlight: [{ commandId: "cmd_1", hasResult: true }] });
    await message(second, "result");
    second.send({ case: "ack", value: { commandId: "cmd_1" } });
    second.send({ case: "inventoryRequest", value: {} });
    await vi.waitFor(
      () => expect(second.received.filter((request) => request.message.case === "inventory")).toHaveLength(2),
      patient,
    );
    second.cut();
    const { message: last } = await message(await session(2), "hello");
    expect(last.value).toMatchObject({ inFlight: [] });
  });

  test("ends with the results of what was stopped and a Goodbye", async () => {
    const agent = await startAgent(async (_spec, { signal }) => {
      await sleep(60_000, signal);
      return {};
    });
    const first = await session(0);
    first.send(deleteCommand);
    await message(first, "accepted");
    await agent.stop();
    await vi.waitFor(() => expect(first.received.at(-1)?.message.case).toBe("goodbye"), patient);
    const { message: result } = await message(first, "result");
    expect(result.value).toMatchObject({ failure: { reason: "AGENT_STOPPED" } });
  });
});
