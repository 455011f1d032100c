// Every request that carries a request id, sent twice: a table of examples that has to be complete.
import { type DescMethod, fromJson, type JsonObject, type JsonValue, toJson } from "@bufbuild/protobuf";
import { AuditService } from "@coppice/proto/gen/coppice/control/v1/audit";
import { OperationService, OperationState } from "@coppice/proto/gen/coppice/control/v1/operation";
import { failureFromConnectError } from "@coppice/proto/kit/connect-failure";
import { parseEnrolmentToken } from "@coppice/proto/kit/enrolment-token";
import { ClusterService } from "@coppice/proto/gen/coppice/control/v1/cluster";
import { HostService } from "@coppice/proto/gen/coppice/control/v1/host";
import { RepositoryService } from "@coppice/proto/gen/coppice/control/v1/repository";
import { RestoreService } from "@coppice/proto/gen/coppice/control/v1/restore";
import { afterAll, beforeAll, expect, test } from "vitest";
import { enrol } from "../../agent/src/session/enrolment.ts";
import { handlers } from "../../agent/src/commands/registry.ts";
import { type ControlPlaneLab, openControlPlaneLab } from "../support/control-plane-lab.ts";
import { findServedMethods } from "../support/fuzz/served-methods.ts";
import { openOperationLab } from "../support/operation-lab.ts";
import { checkPlayed, makePhysical } from "../support/physical/played-backups.ts";
import { report, run } from "../support/wal/told-archive.ts";

const heartbeatMs = 1000;
const stack = new AsyncDisposableStack();
const methods = (await findServedMethods()).filter((method) =>
  method.input.fields.some(({ name }) => name === "request_id"),
);
const nameOf = (method: DescMethod) => `${method.parent.name}/${method.name}`;
const isKnown = new Map(methods.map((method) => [nameOf(method), method]));

let lab: ControlPlaneLab;
/** What examples refer to; known when the lab is there. */
const known = { backup: "", doomed: "", held: "", indeterminate: "", other: "" };

beforeAll(async () => {
  lab = stack.use(await openControlPlaneLab({ heartbeatMs }));
  const db = await openOperationLab(lab, "db1", heartbeatMs);
  const capabilities = [...new Set([...Object.keys(handlers), "walArchive"])];
  const first = await db.connect({ capabilities });
  await lab.client(RepositoryService).createRepository({
    name: "served",
    location: {
      kind: { case: "ssh", value: { host: "127.0.0.1", user: "keeper", path: "/srv", hostKeys: [hostKey("A")] } },
    },
  });
  known.backup = await db.makeBackup(first);
  known.doomed = await db.makeBackup(first);
  await checkPlayed(lab, db, first);
  await makePhysical(lab, db, first);
  const part = { cluster: "db1", database: "orders", replace: true, part: {} };
  known.held = (await lab.client(RestoreService).createRestore({ restore: part })).id;
  const asked = await first.next("command");
  const staged = asked.spec.case === "recoverPart" ? (asked.spec.value.load?.stagedDatabase ?? "") : "";
  const loaded = { database: staged, held: { name: staged, oid: 7, replacesOid: 5 } };
  first.answer(asked, { result: { case: "recoverPart", value: { loaded } } });
  await db.until(known.held, OperationState.SUCCEEDED);
  // One whose agent came back and knows nothing of it.
  known.indeterminate = await db.backUp();
  first.accept(await first.next("command"));
  await db.until(known.indeterminate, OperationState.RUNNING);
  first.cut();
  const second = stack.use(await db.connect({ capabilities }));
  await second.next("command");
  await db.until(known.indeterminate, OperationState.INDETERMINATE);
  known.other = (await lab.client(OperationService).listOperations({})).operations.at(-1)?.id ?? "";
  const archive = await lab.client(ClusterService).updateWalArchive({ cluster: "db1", repository: "db1" });
  const { cluster: clusterId, repository: repositoryId, systemIdentifier } = archive;
  const stored = [run("0/2000000", "0/3000000")];
  await report(second, { db, clusterId, repositoryId }, { systemIdentifier, stored, storedLsn: "0/3000000" });
});
afterAll(() => stack.disposeAsync());

const hostKey = (letter: string) => `ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI${letter.repeat(43)}`;

interface Example {
  /** A request, as JSON without its id. */
  readonly request: () => JsonObject;
  /** What makes another request of it. */
  readonly change: () => JsonObject;
}

const restore = (targetDatabase: string) => ({
  restore: { cluster: "db1", backup: known.backup, database: "orders", targetDatabase },
});

/** Its token is stored hashed, so that nobody can give it again: a repetition is told so. */
const shownOnce = "HostService/CreateEnrolment";

/** In the order in which they are sent: a deletion comes before nothing that needs what it deletes. */
const examples: Record<string, Example> = {
  "ClusterService/CreateCluster": {
    request: () => ({ name: "made", host: "db1", endpoint: { host: "127.0.0.1", port: 5432 }, password: "of made" }),
    change: () => ({ endpoint: { host: "127.0.0.2", port: 5432 } }),
  },
  "ClusterService/AddInstance": {
    request: () => ({ cluster: "made", host: "db1", endpoint: { host: "127.0.0.1", port: 5433 }, password: "of it" }),
    change: () => ({ endpoint: { host: "127.0.0.2", port: 5433 } }),
  },
  "ClusterService/CheckCluster": { request: () => ({ cluster: "db1" }), change: () => ({ cluster: "made" }) },
  "ClusterService/FixCluster": {
    request: () => ({ cluster: "db1", statements: ["ALTER ROLE coppice REPLICATION;"] }),
    change: () => ({ statements: ["SELECT pg_reload_conf();"] }),
  },
  "ClusterService/UpdateWalArchive": {
    request: () => ({ cluster: "db1", repository: "db1", settings: { compressionLevel: 5 } }),
    change: () => ({ settings: { compressionLevel: 9 } }),
  },
  "ClusterService/VerifyWal": { request: () => ({ cluster: "db1" }), change: () => ({ content: true }) },
  "ClusterService/CleanWal": {
    request: () => ({ cluster: "db1", dryRun: true }),
    change: () => ({ dryRun: false }),
  },
  "RepositoryService/CreateRepository": {
    request: () => ({ name: "made", homeHost: "db1", location: { filesystem: { path: "/srv/made" } } }),
    change: () => ({ location: { filesystem: { path: "/srv/other" } } }),
  },
  "RepositoryService/UpdateRepository": {
    request: () => ({ repository: "served", hostKeys: [hostKey("B")] }),
    change: () => ({ hostKeys: [hostKey("C")] }),
  },
  "RepositoryService/CheckRepository": {
    request: () => ({ repository: "db1" }),
    change: () => ({ repository: "made" }),
  },
  "RepositoryService/CleanRepository": {
    request: () => ({ repository: "db1", dryRun: true }),
    change: () => ({ dryRun: false }),
  },
  "RepositoryService/RebuildRepository": {
    request: () => ({ repository: "db1" }),
    change: () => ({ repository: "made" }),
  },
  "BackupService/CreateBackup": {
    request: () => ({ cluster: "db1", repository: "db1" }),
    change: () => ({ dump: { jobs: 2 } }),
  },
  "BackupService/VerifyBackup": { request: () => ({ backup: known.backup }), change: () => ({ content: true }) },
  "BackupService/DeleteBackup": {
    request: () => ({ backup: known.doomed, allowLast: true }),
    change: () => ({ backup: known.backup }),
  },
  "RestoreService/PlanRestore": { request: () => restore("copy"), change: () => restore("another") },
  "RestoreService/CreateRestore": { request: () => restore("copy"), change: () => restore("another") },
  "RestoreService/DecideRestore": {
    request: () => ({ operation: known.held, decision: "RESTORE_DECISION_SWAP" }),
    change: () => ({ decision: "RESTORE_DECISION_DROP" }),
  },
  "OperationService/ResolveOperation": {
    request: () => ({ operation: known.indeterminate, resolution: "OPERATION_RESOLUTION_ABANDON" }),
    change: () => ({ operation: known.other }),
  },
};

async function call(method: DescMethod, body: JsonObject): Promise<JsonObject> {
  const client = lab.client(method.parent);
  const send = client[method.localName];
  if (typeof send !== "function") throw new Error(`${nameOf(method)} cannot be called`);
  const message = fromJson(method.input, body);
  const answer = await (send as (request: typeof message) => Promise<typeof message>)(message);
  return toJson(method.output, answer) as JsonObject;
}

/** All that was ever done, as the audit has it. */
async function countEffects(): Promise<number> {
  const { records, nextPageToken } = await lab.client(AuditService).listAuditRecords({ page: { pageSize: 1000 } });
  expect(nextPageToken).toBe("");
  return records.length;
}

/** What of an answer stays the same while an operation goes on. */
function identity({ id, etag, kind }: JsonObject): JsonValue[] {
  return [id ?? null, etag ?? null, kind ?? null];
}

test("there is an example of every request that has a request id", () => {
  expect([...Object.keys(examples), shownOnce].toSorted()).toEqual([...isKnown.keys()].toSorted());
});

test.each(Object.keys(examples))(
  "%s sent twice with one request id has one effect and one answer, and another body is refused",
  async (name) => {
    const method = isKnown.get(name);
    const example = examples[name];
    if (!method || !example) throw new Error(`there is no ${name}`);
    const requestId = `again-${name.replace("/", "-").slice(0, 50)}`;
    const request = { ...example.request(), requestId };
    const before = await countEffects();
    const answers = [await call(method, request), await call(method, request), await call(method, request)];
    expect(answers.map(identity)).toEqual(answers.map(() => identity(answers[0] ?? {})));
    expect(await countEffects()).toBe(before + 1);
    const failure = await call(method, { ...request, ...example.change() }).then(
      () => undefined,
      (error: unknown) => failureFromConnectError(error),
    );
    expect(failure?.reason).toBe("REQUEST_ID_REUSED");
    expect(await countEffects()).toBe(before + 1);
  },
);

test("an enrolment asked for twice with one request id is made once, and its token stays the one that counts", async () => {
  const { createEnrolment } = lab.client(HostService);
  const reasonOf = (work: Promise<unknown>) =>
    work.then(
      () => "it was made",
      (error: unknown) => failureFromConnectError(error)?.reason,
    );
  const request = { hostName: "db2", requestId: "again-enrolment" };
  const before = await countEffects();
  // Both at once, as a client that lost its connection may send them.
  const sent = await Promise.allSettled([createEnrolment(request), createEnrolment(request)]);
  const [made, ...others] = sent.flatMap((each) => (each.status === "fulfilled" ? [each.value] : []));
  expect(others).toEqual([]);
  expect(await reasonOf(createEnrolment(request))).toBe("TOKEN_SHOWN");
  expect(await reasonOf(createEnrolment({ ...request, hostName: "db3" }))).toBe("REQUEST_ID_REUSED");
  expect(await countEffects()).toBe(before + 1);
  await enrol(parseEnrolmentToken(made?.token ?? ""), "0.0.0-test", AbortSignal.timeout(30_000));
  expect(await reasonOf(createEnrolment(request))).toBe("TOKEN_SHOWN");
  expect(await reasonOf(createEnrolment({ ...request, requestId: "another" }))).toBe("it was made");
});
