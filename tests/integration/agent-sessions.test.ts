import { randomUUID } from "node:crypto";
import { HostService, HostState } from "@coppice/proto/gen/coppice/control/v1/host";
import { ClusterService } from "@coppice/proto/gen/coppice/control/v1/cluster";
import { CheckStatus } from "@coppice/proto/gen/coppice/common/v1/check";
import { OperationService, OperationState } from "@coppice/proto/gen/coppice/control/v1/operation";
import { failureFromConnectError } from "@coppice/proto/kit/connect-failure";
import { parseEnrolmentToken } from "@coppice/proto/kit/enrolment-token";
import { afterAll, beforeAll, expect, test } from "vitest";
import { makeCertificateRequest } from "../../agent/src/session/certificate-request.ts";
import { enrol } from "../../agent/src/session/enrolment.ts";
import { noteSilentHosts } from "../../control-plane/src/catalog/fleet/session.ts";
import { makeTestAuthority } from "../support/agent-authority.ts";
import { type ControlPlaneLab, openControlPlaneLab } from "../support/control-plane-lab.ts";
import { openSimulatedAgent } from "../support/simulated-agent.ts";

// Long enough for a busy machine to keep to it.
const heartbeatMs = 500;
let lab: ControlPlaneLab;

beforeAll(async () => {
  lab = await openControlPlaneLab({ heartbeatMs });
});
afterAll(async () => {
  await lab[Symbol.asyncDispose]();
});

const hosts = () => lab.client(HostService);
const connect = async (identity: Awaited<ReturnType<ControlPlaneLab["enrol"]>>, bootId: string = randomUUID()) => {
  const agent = openSimulatedAgent({ identity, address: lab.app.address, heartbeatMs, bootId });
  await agent.next("welcome");
  return agent;
};
const waitForState = async (host: string, state: HostState) => {
  await expect.poll(async () => (await hosts().getHost({ host })).state, { interval: 20, timeout: 5000 }).toBe(state);
};
const refusal = async (work: Promise<unknown>) => {
  const error: unknown = await work.then(
    () => "it was not refused",
    (caught: unknown) => caught,
  );
  return failureFromConnectError(error).reason;
};

test("an agent enrols, connects, gets a check, answers, and the watcher sees the operation succeed", async () => {
  const identity = await lab.enrol("thin");
  using agent = await connect(identity);
  await waitForState("thin", HostState.CONNECTED);
  const { id } = await lab.client(ClusterService).createCluster({
    name: "thin",
    host: "thin",
    endpoint: { address: { case: "socketDirectory", value: "/run/postgresql" }, port: 5432 },
    password: "a password that only the command may carry",
  });
  const { id: operation } = await lab.client(ClusterService).checkCluster({ cluster: id });
  const command = await agent.next("command");
  expect(command.spec.case).toBe("checkCluster");
  expect(command.secrets.map(({ value }) => value)).toEqual(["a password that only the command may carry"]);
  const states: OperationState[] = [];
  const watching = (async () => {
    for await (const snapshot of lab.client(OperationService).watchOperation({ operation })) {
      states.push(snapshot.state);
      if (snapshot.state === OperationState.DISPATCHED) agent.accept(command);
      if (snapshot.state === OperationState.RUNNING) {
        agent.answer(command, {
          result: {
            case: "checkCluster",
            value: {
              items: [{ name: "connection", status: CheckStatus.OK, message: "PostgreSQL 15" }],
              facts: {
                systemIdentifier: "7123",
                serverVersionNum: 150_009,
                databases: [{ name: "orders", sizeBytes: 10n, allowConnections: true }],
              },
            },
          },
        });
      }
    }
  })();
  const ack = await agent.next("ack");
  expect(ack.commandId).toBe(command.commandId);
  await watching;
  expect(states).toEqual([OperationState.DISPATCHED, OperationState.RUNNING, OperationState.SUCCEEDED]);
  const cluster = await lab.client(ClusterService).getCluster({ cluster: "thin" });
  expect(cluster.reachable).toBe(true);
  expect(cluster.incarnations.map(({ systemIdentifier }) => systemIdentifier)).toEqual(["7123"]);
  expect(cluster.databases.map(({ name }) => name)).toEqual(["orders"]);
});

test("an enrolment token works once, for its own host, and a newer one replaces it", async () => {
  const first = parseEnrolmentToken((await hosts().createEnrolment({ hostName: "once" })).token);
  const second = parseEnrolmentToken((await hosts().createEnrolment({ hostName: "once" })).token);
  const { signal } = new AbortController();
  expect(await refusal(enrol(first, "0", signal))).toBe("TOKEN_UNKNOWN");
  expect(await refusal(enrol({ ...second, host: "other" }, "0", signal))).toBe("TOKEN_WRONG_HOST");
  const uses = await Promise.allSettled(Array.from({ length: 5 }, () => enrol(second, "0", signal)));
  expect(uses.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
  expect(await refusal(enrol(second, "0", signal))).toBe("TOKEN_USED");
});

test("an agent that lost its folder enrols again once it is gone, and the old certificate is worth nothing then", async () => {
  const old = await lab.enrol("reborn");
  using first = await connect(old);
  await waitForState("reborn", HostState.CONNECTED);
  expect(await refusal(hosts().createEnrolment({ hostName: "reborn" }))).toBe("HOST_ENROLLED");
  first.cut();
  await waitForState("reborn", HostState.UNKNOWN);
  const token = parseEnrolmentToken((await hosts().createEnrolment({ hostName: "reborn" })).token);
  // The old one works until the token is used, and is cut off then.
  using late = await connect(old);
  await waitForState("reborn", HostState.CONNECTED);
  const fresh = await enrol(token, "0", new AbortController().signal);
  expect(fresh.hostId).toBe(old.hostId);
  await late.next("goodbye");
  using again = openSimulatedAgent({ identity: old, address: lab.app.address, heartbeatMs });
  expect((await again.status).details).toContain("was revoked");
  using second = await connect(fresh);
  await second.next("heartbeat");
  await waitForState("reborn", HostState.CONNECTED);
});

test("a host that was taken for lost is connected again with its agent's next sign of life", async () => {
  const identity = await lab.enrol("late");
  using agent = await connect(identity);
  await waitForState("late", HostState.CONNECTED);
  // As when the catalog stood still for longer than three heartbeats, or its clock was put forward.
  expect(await lab.catalog.transaction((tx) => noteSilentHosts(tx, -60_000))).toContain(identity.hostId);
  await agent.next("heartbeat");
  await waitForState("late", HostState.CONNECTED);
});

test("an agent that falls silent is UNKNOWN within two heartbeats and told so", async () => {
  using agent = await connect(await lab.enrol("silent"));
  await waitForState("silent", HostState.CONNECTED);
  agent.freeze();
  const frozenMs = performance.now();
  await waitForState("silent", HostState.UNKNOWN);
  expect(performance.now() - frozenMs).toBeLessThan(3 * heartbeatMs);
});

test("an end without goodbye is a lost agent, one with goodbye a stopped one", async () => {
  const identity = await lab.enrol("leaver");
  using lost = await connect(identity);
  await waitForState("leaver", HostState.CONNECTED);
  lost.cut();
  await waitForState("leaver", HostState.UNKNOWN);
  using stopped = await connect(identity);
  await waitForState("leaver", HostState.CONNECTED);
  stopped.send({ case: "goodbye", value: { reason: "shutdown" } });
  await waitForState("leaver", HostState.STOPPED);
  expect((await stopped.next("goodbye")).reason).toBe("shutdown");
  expect((await stopped.status).code).toBe(0);
});

test("a second live agent with the same certificate is refused, and the first one goes on", async () => {
  const identity = await lab.enrol("cloned");
  using first = await connect(identity);
  await waitForState("cloned", HostState.CONNECTED);
  using clone = openSimulatedAgent({ identity, address: lab.app.address, heartbeatMs });
  const { details } = await clone.status;
  expect(details).toContain("another agent that uses the certificate of cloned is connected");
  await first.next("heartbeat");
  await first.next("heartbeat");
  expect((await hosts().getHost({ host: "cloned" })).state).toBe(HostState.CONNECTED);
});

test("the same agent on a new connection replaces its old one", async () => {
  const identity = await lab.enrol("moved");
  using first = await connect(identity, "boot");
  await waitForState("moved", HostState.CONNECTED);
  using second = await connect(identity, "boot");
  await first.next("goodbye");
  await second.next("heartbeat");
  await second.next("heartbeat");
  expect((await hosts().getHost({ host: "moved" })).state).toBe(HostState.CONNECTED);
});

test("a removed host is cut off at once and cannot come back", async () => {
  const identity = await lab.enrol("removed");
  using agent = await connect(identity);
  await waitForState("removed", HostState.CONNECTED);
  await hosts().deleteHost({ host: "removed" });
  await agent.next("goodbye");
  using again = openSimulatedAgent({ identity, address: lab.app.address, heartbeatMs });
  expect((await again.status).details).toContain("the agent's certificate is unknown");
});

test("a message of another session changes nothing, and a hole in the numbers asks for a full inventory", async () => {
  using agent = await connect(await lab.enrol("holes"));
  await waitForState("holes", HostState.CONNECTED);
  const found = (port: number) => ({
    case: "inventory" as const,
    value: {
      inventoryId: "one",
      last: true,
      resources: {
        case: "clusters" as const,
        value: { clusters: [{ port, dataDirectory: "/data", major: 15, owner: "postgres", runningUnknown: "closed" }] },
      },
    },
  });
  agent.sendRaw({ sequence: 2n, sessionEpoch: agent.epoch - 1n, message: found(1) });
  agent.sendRaw({ sequence: 9n, sessionEpoch: agent.epoch, message: found(2) });
  await agent.next("inventoryRequest");
  await expect
    .poll(async () => (await hosts().getHost({ host: "holes" })).discoveredClusters)
    .toMatchObject([{ port: 2, running: false, runningUnknown: "closed" }]);
  const discovered = await lab.client(ClusterService).discoverClusters({ host: "holes" });
  expect(discovered.hosts[0]?.clusters).toMatchObject([{ running: false, runningUnknown: "closed" }]);
});

test("a certificate of another authority opens no session", async () => {
  const identity = await lab.enrol("stranger");
  const { privateKeyPem, requestPem } = makeCertificateRequest("stranger");
  const certificateChainPem = await (await makeTestAuthority()).issueClient(requestPem);
  using agent = openSimulatedAgent({
    identity: { ...identity, privateKeyPem, certificateChainPem },
    address: lab.app.address,
    heartbeatMs,
  });
  expect((await agent.status).details).toContain("the agent's certificate is unknown");
});

test("when the control plane ends, agents hear goodbye, and after its start they are back", async () => {
  const identity = await lab.enrol("patient");
  using agent = await connect(identity, "boot");
  await waitForState("patient", HostState.CONNECTED);
  await lab.restart();
  expect((await agent.next("goodbye")).reason).toBe("shutdown");
  using again = await connect(identity, "boot");
  await again.next("heartbeat");
  await waitForState("patient", HostState.CONNECTED);
});
