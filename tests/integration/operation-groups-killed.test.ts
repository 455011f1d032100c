import { setTimeout as delay } from "node:timers/promises";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Command, ResultSchema } from "@coppice/proto/gen/coppice/agent/v1/command";
import { parseEnrolmentToken } from "@coppice/proto/kit/enrolment-token";
import { afterAll, beforeAll, expect, test } from "vitest";
import { enrol } from "../../agent/src/session/enrolment.ts";
import type { Identity } from "../../agent/src/session/identity.ts";
import { type Installation, openInstallation, waitFor } from "../support/installation.ts";
import { dumpOf, dumpResult } from "../support/operation-lab.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";
import { openSimulatedAgent } from "../support/simulated-agent.ts";

interface Listed {
  readonly id: string;
  readonly parent?: string;
  readonly state: string;
  readonly restoredCluster?: { readonly restored?: readonly string[] };
}

const databases = ["a", "b", "c"];
let server: PostgresServer;
let installation: Installation;
let identity: Identity;
const ending = new AbortController();
let playing: Promise<void>;
/** What the agent's journal would hold: each command that it took on, with its result. */
const journal = new Map<string, { command: Command; result: Result }>();
const restored: string[] = [];

type Result = NonNullable<MessageInitShape<typeof ResultSchema>["result"]>;

beforeAll(async () => {
  server = await openPostgresServer({ major: 15 });
  const password = encodeURIComponent(server.password);
  const databaseUrl = `postgres://${server.superuser}:${password}@127.0.0.1:${server.port}/postgres`;
  installation = await openInstallation({ databaseUrl, heartbeat: "1s" });
  const { call } = installation;
  const { token } = await call<{ token: string }>("HostService/CreateEnrolment", { hostName: "db7" });
  identity = await enrol(parseEnrolmentToken(token), "0.0.0-test", ending.signal);
  const endpoint = { socketDirectory: "/run/shop", port: 5432 };
  await call("ClusterService/CreateCluster", { name: "shop", host: "db7", endpoint });
  const location = { filesystem: { path: "/srv/shop" } };
  await call("RepositoryService/CreateRepository", { name: "main", homeHost: "db7", location });
  playing = play();
  const { id } = await call<{ id: string }>("BackupService/CreateBackup", { cluster: "shop" });
  await waitFor("there is a backup", async () => (await get(id)).state.endsWith("_SUCCEEDED"));
});
afterAll(async () => {
  ending.abort();
  await playing;
  await installation?.[Symbol.asyncDispose]();
  await server?.[Symbol.asyncDispose]();
});

const get = (id: string) => installation.call<Listed>("OperationService/GetOperation", { operation: id });

/** An agent that does all that it is told and loses nothing of it, however often its control plane goes away. */
async function play(): Promise<void> {
  while (!ending.signal.aborted) {
    const inFlight = [...journal.values()].map(({ command: { commandId, operationId, fence } }) => ({
      commandId,
      operationId,
      ...(fence ? { fence } : {}),
      hasResult: true,
    }));
    const { address } = installation;
    using agent = openSimulatedAgent({ identity, address, bootId: "boot", inFlight, heartbeatMs: 300 });
    const stop = () => agent.cut();
    ending.signal.addEventListener("abort", stop, { once: true });
    try {
      await agent.next("welcome");
      for (const { command, result } of journal.values()) agent.answer(command, { result });
      for (;;) {
        const command = await agent.next("command");
        const result = answerTo(command);
        agent.accept(command);
        journal.set(command.commandId, { command, result });
        await delay(20);
        agent.answer(command, { result });
      }
    } catch {
      // The control plane was killed: it is back soon.
      await delay(50);
    } finally {
      ending.signal.removeEventListener("abort", stop);
    }
  }
}

function answerTo(command: Command): Result {
  const { spec, operationId } = command;
  switch (spec.case) {
    case "backupDump": {
      const one = dumpResult(dumpOf(command)).manifest?.content;
      if (one?.case !== "dump") throw new Error("it is no dump");
      const [database] = one.value.databases;
      if (!database) throw new Error("it has no database");
      const value = { ...one.value, databases: databases.map((name) => ({ ...database, name })) };
      return { case: "backupDump", value: dumpResult(dumpOf(command), { content: { case: "dump", value } }) };
    }
    case "restoreGlobals":
      return { case: "restoreGlobals", value: {} };
    case "restoreDatabase": {
      restored.push(spec.value.database);
      return { case: "restoreDatabase", value: { database: spec.value.database, rows: 1n } };
    }
    case "settle": {
      // Asked about a command that never came, it has nothing to tell.
      const known = [...journal.values()].find(({ command: taken }) => taken.operationId === operationId)?.result;
      const outcome = known?.case === "restoreDatabase" ? known : undefined;
      return { case: "settle", value: outcome === undefined ? {} : { outcome } };
    }
    default:
      throw new Error(`${spec.case} was not expected`);
  }
}

const isEnded = ({ state }: Listed) => /_(SUCCEEDED|FAILED|CANCELLED)$/.test(state);

/** What must be true of a group whenever anybody looks. */
async function look(group: string): Promise<{ parent: Listed; children: Listed[] }> {
  const { operations } = await installation.call<{ operations: Listed[] }>("OperationService/ListOperations", {
    page: { pageSize: 100 },
  });
  const parent = operations.find(({ id }) => id === group);
  if (!parent) throw new Error(`there is no group ${group}`);
  const children = operations.filter((one) => one.parent === group).toReversed();
  expect(children).toHaveLength(4);
  expect(isEnded(parent), JSON.stringify({ parent, children })).toBe(children.every(isEnded));
  for (const [index, { state }] of children.entries()) {
    if (index === 0 || /_(QUEUED|CANCELLED)$/.test(state)) continue;
    expect(children[index - 1]?.state, JSON.stringify(children)).toMatch(/_SUCCEEDED$/);
  }
  return { parent, children };
}

async function killAndStart(): Promise<void> {
  await installation.controlPlane().end("SIGKILL");
  await installation.startControlPlane();
}

const create = (requestId: string) =>
  installation.call<Listed>("RestoreService/CreateRestore", {
    restore: { cluster: "shop", what: "RESTORE_WHAT_CLUSTER" },
    requestId,
  });

test("a control plane that is killed at any moment leaves a group whole, and it goes on", async () => {
  for (const afterMs of [5, 45, 90, 140]) {
    restored.length = 0;
    const first = create(`after ${afterMs}`).catch(() => undefined);
    await delay(afterMs);
    await killAndStart();
    await first;
    // Whether the first request was heard or not, this one gives the one group.
    const { id } = await create(`after ${afterMs}`);
    await look(id);
    const { parent } = await waitFor("the group has ended", async () => {
      const seen = await look(id);
      return isEnded(seen.parent) && seen;
    });
    expect(parent.state, JSON.stringify(await get(id))).toMatch(/_SUCCEEDED$/);
    expect(parent.restoredCluster?.restored).toEqual(databases);
    expect(restored, `killed after ${afterMs} ms`).toEqual(databases);
  }
});

test("a group whose cancel met the end of its control plane is cancelled, or was done before", async () => {
  for (const afterMs of [0, 25]) {
    const { id } = await create(`cancelled after ${afterMs}`);
    await delay(60);
    const asked = installation.call("OperationService/CancelOperation", { operation: id }).catch(() => undefined);
    await delay(afterMs);
    await killAndStart();
    await asked;
    const { children } = await look(id);
    if (!children.every(isEnded)) {
      await installation.call("OperationService/CancelOperation", { operation: id }).catch(() => undefined);
    }
    const ended = await waitFor("the group has ended", async () => {
      const seen = await look(id);
      return isEnded(seen.parent) && seen;
    });
    expect(ended.parent.state).toMatch(/_(CANCELLED|SUCCEEDED)$/);
  }
});
