// One control plane answers all of these, because each takes seconds to start: what people and programs see of it.
import { execFile } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { request as httpsRequest } from "node:https";
import { join } from "node:path";
import { text as readText } from "node:stream/consumers";
import { connect as connectTls } from "node:tls";
import { promisify } from "node:util";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import { BackupKind } from "@coppice/proto/gen/coppice/common/v1/backup_kind";
import { AuditService } from "@coppice/proto/gen/coppice/control/v1/audit";
import { BackupService } from "@coppice/proto/gen/coppice/control/v1/backup";
import { ClusterService } from "@coppice/proto/gen/coppice/control/v1/cluster";
import { FindingService } from "@coppice/proto/gen/coppice/control/v1/finding";
import { HostService } from "@coppice/proto/gen/coppice/control/v1/host";
import { OperationService, OperationState } from "@coppice/proto/gen/coppice/control/v1/operation";
import { RepositoryService } from "@coppice/proto/gen/coppice/control/v1/repository";
import { RestoreService } from "@coppice/proto/gen/coppice/control/v1/restore";
import { Role, TokenService } from "@coppice/proto/gen/coppice/control/v1/token";
import { Health, HealthCheckResponse_ServingStatus as Status } from "@coppice/proto/gen/grpc/health/v1/health";
import { failureFromConnectError } from "@coppice/proto/kit/connect-failure";
import type { Failure } from "@coppice/proto/kit/failure";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openTestControlPlane, type TestControlPlane } from "../support/control-plane.ts";

const run = promisify(execFile);
let plane: TestControlPlane;

beforeAll(async () => {
  plane = await openTestControlPlane();
});
afterAll(() => plane[Symbol.asyncDispose]());

async function failureOf(call: Promise<unknown>): Promise<Failure> {
  try {
    await call;
  } catch (error) {
    return failureFromConnectError(error);
  }
  throw new Error("the call succeeded");
}

/** A request of HTTP/1.1 with a body of JSON. */
function post(path: string, body: string, token = plane.adminToken): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const headers = { "content-type": "application/json", authorization: `Bearer ${token}` };
    const options = { method: "POST", ca: plane.app.caPem, headers, agent: false };
    const sent = httpsRequest(`${plane.app.address}/${path}`, options, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
      response.on("end", () => resolve({ status: response.statusCode ?? 0, text }));
    });
    sent.on("error", reject);
    sent.end(body);
  });
}

/** Sends bytes as they are, and gives all that comes back. */
async function exchange(bytes: string): Promise<string> {
  const { port } = new URL(plane.app.address);
  const socket = connectTls({ host: "127.0.0.1", port: Number(port), ca: plane.app.caPem });
  socket.write(bytes);
  return readText(socket);
}

test("curl with nothing but the root and a token lists hosts in JSON", async () => {
  const ca = join(plane.config.dataDirectory, "ca.pem");
  await writeFile(ca, plane.app.caPem);
  const header = `authorization: Bearer ${plane.adminToken}`;
  const url = `${plane.app.address}/coppice.control.v1.HostService/ListHosts`;
  const { stdout } = await run("curl", ["--silent", "--fail", "--cacert", ca, "--header", header, "--json", "{}", url]);
  expect(JSON.parse(stdout)).toMatchObject({});
});

test("one port answers gRPC, gRPC-Web, Connect and JSON over HTTP/1.1", async () => {
  const { address, caPem } = plane.app;
  const settings = { baseUrl: address, nodeOptions: { ca: caPem } };
  const header = { authorization: `Bearer ${plane.adminToken}` };
  for (const transport of [
    createGrpcWebTransport({ ...settings, httpVersion: "1.1" }),
    createConnectTransport({ ...settings, httpVersion: "2" }),
    createConnectTransport({ ...settings, httpVersion: "1.1" }),
  ]) {
    const token = await createClient(TokenService, transport).getCurrentToken({}, { headers: header });
    expect(token).toMatchObject({ name: "admin", role: Role.ADMIN });
  }
  expect(await plane.client(TokenService).getCurrentToken({})).toMatchObject({ name: "admin" });
  const answer = await post("coppice.control.v1.TokenService/GetCurrentToken", "{}");
  expect(JSON.parse(answer.text)).toMatchObject({ name: "admin", role: "ROLE_ADMIN" });
});

test("health is told without a token, in the way of gRPC and in plain text", async () => {
  expect(await plane.client(Health, "").check({})).toMatchObject({ status: Status.SERVING });
  expect(await plane.client(Health, "").check({ service: HostService.typeName })).toMatchObject({
    status: Status.SERVING,
  });
  for await (const { status } of plane.client(Health, "").watch({ service: "no.such.Service" })) {
    expect(status).toBe(Status.SERVICE_UNKNOWN);
    break;
  }
  for (const path of ["healthz", "readyz"]) expect((await post(path, "")).status).toBe(200);
  expect((await post("nothing", "")).status).toBe(404);
});

test("every method refuses a call without a token, and with one that is unknown", async () => {
  const services = [AuditService, BackupService, ClusterService, FindingService, HostService, OperationService];
  for (const service of [...services, RepositoryService, RestoreService, TokenService]) {
    for (const { name } of service.methods) {
      for (const token of ["", "cop_wrong", `cop_${"A".repeat(43)}`]) {
        const { status, text } = await post(`${service.typeName}/${name}`, "{}", token);
        // Methods that stream answer 415 to plain JSON before they look at anything else.
        expect([401, 415], `${service.typeName}/${name}`).toContain(status);
        expect(text, name).not.toContain(token === "" ? "\0" : token);
      }
    }
  }
});

test("a role may do what its methods ask for, and no more", async () => {
  const tokens = plane.client(TokenService);
  const { value: viewer } = await tokens.createToken({ name: "viewer", role: Role.VIEWER });
  const { value: operator } = await tokens.createToken({ name: "operator", role: Role.OPERATOR });
  await plane.client(HostService, viewer).listHosts({});
  const refused = await failureOf(plane.client(BackupService, viewer).createBackup({ cluster: "none" }));
  expect(refused).toMatchObject({
    reason: "PERMISSION_DENIED",
    message: "BackupService/CreateBackup needs the role operator, token viewer has viewer",
  });
  expect(await failureOf(plane.client(BackupService, operator).createBackup({ cluster: "none" }))).toMatchObject({
    reason: "CLUSTER_NOT_FOUND",
  });
  expect(await failureOf(plane.client(TokenService, operator).listTokens({}))).toMatchObject({
    reason: "PERMISSION_DENIED",
  });
});

test("a revoked token ends at once, and the last admin token cannot be revoked", async () => {
  const tokens = plane.client(TokenService);
  const { value } = await tokens.createToken({ name: "gone", role: Role.VIEWER });
  await tokens.revokeToken({ token: "gone" });
  expect(await failureOf(plane.client(HostService, value).listHosts({}))).toMatchObject({ reason: "UNAUTHENTICATED" });
  expect(await failureOf(tokens.revokeToken({ token: "admin" }))).toMatchObject({ reason: "LAST_ADMIN_TOKEN" });
  const listed = (await tokens.listTokens({})).tokens.map(({ name }) => name);
  expect(listed).toEqual([...listed].sort());
  expect(listed).toContain("gone");
});

test("a reference that is only mistyped is not found, and the failure says in words what was expected", async () => {
  const failure = await failureOf(plane.client(ClusterService).getCluster({ cluster: "cls_nonsense" }));
  expect(failure.reason).toBe("CLUSTER_NOT_FOUND");
  expect(failure.message).toContain("there is no cluster cls_nonsense; expected a name of lower-case letters");
});

test("bad input is refused with the field and what was expected, and a secret is never repeated", async () => {
  const clusters = plane.client(ClusterService);
  const failure = await failureOf(clusters.createCluster({ name: "Shop!", host: "db7", password: "hunter2\0" }));
  expect(failure.reason).toBe("INVALID_FIELD");
  expect(failure.fields).toEqual([
    expect.objectContaining({
      field: "name",
      value: "Shop!",
      expected: expect.stringContaining("a name of lower-case letters") as string,
    }),
    expect.not.objectContaining({ value: expect.anything() as string }),
  ]);
  expect(JSON.stringify([failure.message, failure.fields, failure.metadata])).not.toContain("hunter2");
  const page = await failureOf(clusters.listClusters({ page: { pageToken: "WyJcdTAwMDAiXQ" } }));
  expect(page.fields).toMatchObject([{ field: "page.page_token" }]);
  const misspelt = await post(
    "coppice.control.v1.BackupService/CreateBackup",
    '{"cluster":"shop","validateonly":true}',
  );
  expect(misspelt).toMatchObject({ status: 400, text: expect.stringContaining("validateonly") as string });
});

test("what is too large, cut off or no message at all is refused, and the server goes on", async () => {
  const path = "coppice.control.v1.ClusterService/CreateCluster";
  const large = await post(path, JSON.stringify({ name: "x".repeat(5 * 1024 * 1024) }));
  expect(large.status).toBe(429);
  for (const body of ["", "{", "[]", "null", '"x"', '{"name":1}', '{"name":{"a":[]}}', "\u0000", "{}{}"]) {
    expect((await post(path, body)).status, body).toBe(400);
  }
  for (const head of ["POST /x HTTP/1.1\r\nhost: a b", "POST /x HTTP/1.0", "POST //@ HTTP/1.1\r\nhost: [::1"]) {
    expect(await exchange(`${head}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n`), head).toMatch(
      /^HTTP\/1\.1 400 /,
    );
  }
  expect((await post("healthz", "")).status).toBe(200);
});

test("an operation waits for its agent, can be watched, and is cancelled at once while nobody has it", async () => {
  const hosts = plane.client(HostService);
  const { token } = await hosts.createEnrolment({ hostName: "db7" });
  const clusters = plane.client(ClusterService);
  const cluster = {
    name: "shop",
    host: "db7",
    endpoint: { address: { case: "host", value: "127.0.0.1" } },
    password: "s3cret-pw",
    requestId: "c1",
  } as const;
  const made = await clusters.createCluster(cluster);
  expect((await clusters.createCluster(cluster)).id).toBe(made.id);
  expect(made).toMatchObject({ hasPassword: true, instances: [{ hostName: "db7" }] });
  const repositories = plane.client(RepositoryService);
  const location = { kind: { case: "filesystem", value: { path: "/srv/backups/" } } } as const;
  await repositories.createRepository({ name: "main", location, homeHost: "db7" });
  expect(await failureOf(repositories.createRepository({ name: "again", location, homeHost: "db7" }))).toMatchObject({
    reason: "REPOSITORY_EXISTS",
  });

  const backups = plane.client(BackupService);
  const preview = await backups.createBackup({ cluster: "shop", validateOnly: true });
  expect(preview).toMatchObject({ id: "", kind: "create_backup", spec: { value: { repositoryName: "main" } } });
  const started = await backups.createBackup({ cluster: "shop", requestId: "b1" });
  expect(await backups.createBackup({ cluster: "shop", requestId: "b1" })).toMatchObject({ id: started.id });
  expect(started).toMatchObject({ state: OperationState.QUEUED, principal: "admin", hostName: "db7" });
  expect(started.stateReason).toContain("has not connected yet");
  expect(await failureOf(clusters.deleteCluster({ cluster: "shop" }))).toMatchObject({ reason: "CLUSTER_IN_USE" });

  const operations = plane.client(OperationService);
  const seen: OperationState[] = [];
  const watching = (async () => {
    for await (const { state } of operations.watchOperation({ operation: started.id })) seen.push(state);
  })();
  await expect.poll(() => seen.length).toBeGreaterThan(0);
  const waiting = operations.waitOperation({
    operation: started.id,
    cursor: started.cursor,
    timeout: { seconds: 20n },
  });
  await operations.cancelOperation({ operation: started.id });
  expect((await waiting).state).toBe(OperationState.CANCELLED);
  await watching;
  expect(seen).toEqual([OperationState.QUEUED, OperationState.CANCELLED]);
  expect(await failureOf(operations.cancelOperation({ operation: started.id }))).toMatchObject({
    reason: "OPERATION_NOT_CANCELLABLE",
  });

  const { records } = await plane.client(AuditService).listAuditRecords({});
  expect(records.map(({ action }) => action)).toEqual(
    expect.arrayContaining(["BackupService/CreateBackup", "OperationService/CancelOperation"]),
  );
  const everything = records.map(({ requestJson }) => requestJson).join("") + plane.logLines.join("");
  for (const secret of ["s3cret-pw", plane.adminToken, token]) expect(everything.includes(secret)).toBe(false);
});

test("backups and restores that cannot be are refused before anything is queued", async () => {
  const backups = plane.client(BackupService);
  const restores = plane.client(RestoreService);
  await plane.client(HostService).createEnrolment({ hostName: "db8" });
  await plane.client(ClusterService).createCluster({
    name: "other",
    host: "db8",
    endpoint: { address: { case: "socketDirectory", value: "/run/postgresql" } },
  });
  const expected: [() => Promise<unknown>, string, string, hint?: string][] = [
    [() => backups.createBackup({ cluster: "shop", kind: BackupKind.FULL }), "CLUSTER_NOT_CHECKED", "shop"],
    [
      () => backups.createBackup({ cluster: "other" }),
      "REPOSITORY_AMBIGUOUS",
      "no repository can be reached from host db8",
    ],
    [
      () => backups.createBackup({ cluster: "other", repository: "main" }),
      "REPOSITORY_WRONG_HOST",
      "a folder of host db7, not of db8",
    ],
    [
      () => backups.createBackup({ cluster: "shop", dump: { databases: ["a"], excludeDatabases: ["a"] } }),
      "INVALID_FIELD",
      '"a"',
    ],
    [
      () => restores.createRestore({ restore: { cluster: "shop", database: "a" } }),
      "BACKUP_NOT_FOUND",
      "cluster shop has no backup",
      "take one: coppice backup create shop",
    ],
    [() => backups.verifyBackup({ backup: "bkp_01jd3kz9m8f7s6r5q4p3n2b1a0" }), "BACKUP_NOT_FOUND", "bkp_"],
    [
      () => plane.client(RepositoryService).checkRepository({ repository: "main", host: "db8" }),
      "REPOSITORY_WRONG_HOST",
      "db7",
    ],
    [() => plane.client(HostService).deleteHost({ host: "db7" }), "HOST_IN_USE", "clusters"],
  ];
  for (const [call, reason, text, hint = ""] of expected) {
    const failure = await failureOf(call());
    expect(failure).toMatchObject({ reason, message: expect.stringContaining(text) as string });
    expect(failure.hint, reason).not.toBe("");
    expect(failure.hint).toContain(hint);
  }
});

test("a cluster is changed by its mask, and only by who has read it last", async () => {
  const clusters = plane.client(ClusterService);
  const before = await clusters.getCluster({ cluster: "other" });
  const renamed = await clusters.updateCluster({
    cluster: before.id,
    name: "renamed",
    labels: { team: "ignored" },
    updateMask: { paths: ["name"] },
    etag: before.etag,
  });
  expect(renamed).toMatchObject({ id: before.id, name: "renamed", labels: {} });
  const late = clusters.updateCluster({ cluster: before.id, updateMask: { paths: ["labels"] }, etag: before.etag });
  expect(await failureOf(late)).toMatchObject({ reason: "ETAG_MISMATCH" });
  const taken = clusters.updateCluster({ cluster: before.id, name: "shop", updateMask: { paths: ["name"] } });
  expect(await failureOf(taken)).toMatchObject({ reason: "NAME_TAKEN" });
  const unknown = clusters.updateCluster({ cluster: before.id, updateMask: { paths: ["id"] } });
  expect(await failureOf(unknown)).toMatchObject({ reason: "INVALID_FIELD" });
  await clusters.updateCluster({ cluster: before.id, password: "n3w-pw", updateMask: { paths: ["password"] } });
  expect(await clusters.getCluster({ cluster: "renamed" })).toMatchObject({ hasPassword: true });
});

test("what is wrong is listed with the command that mends it", async () => {
  const { findings } = await plane.client(FindingService).listFindings({});
  expect(findings.map(({ rule, subjectName, fix }) => [rule, subjectName, fix])).toContainEqual([
    "no-good-backup",
    "shop",
    "coppice backup create shop",
  ]);
});

test("a call that ran out of its time says so", async () => {
  const call = plane
    .client(OperationService)
    .waitOperation({ operation: "op_01jd3kz9m8f7s6r5q4p3n2b1a0", timeout: { seconds: 1n } }, { timeoutMs: 1 });
  const error: unknown = await call.catch((caught: unknown) => caught);
  expect([Code.DeadlineExceeded, Code.NotFound]).toContain(ConnectError.from(error).code);
});
