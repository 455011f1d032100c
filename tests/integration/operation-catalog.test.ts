import { create } from "@bufbuild/protobuf";
import { CheckClusterSpecSchema, DeleteBackupSpecSchema } from "@coppice/proto/gen/coppice/control/v1/operation";
import { ResultSchema } from "@coppice/proto/gen/coppice/agent/v1/command";
import { isFailure } from "@coppice/proto/kit/failure";
import { newId } from "@coppice/proto/kit/id";
import { openLog } from "@coppice/proto/kit/log";
import { eq } from "drizzle-orm";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { type Catalog, openCatalog } from "../../control-plane/src/catalog/catalog.ts";
import { insertCertificate } from "../../control-plane/src/catalog/fleet/certificate.ts";
import { ensureHost } from "../../control-plane/src/catalog/fleet/enrolment.ts";
import { acceptSession, nextSessionEpoch } from "../../control-plane/src/catalog/fleet/session.ts";
import { findHost } from "../../control-plane/src/catalog/host.ts";
import { changeOperation, nextFenceNumber } from "../../control-plane/src/catalog/operations/change.ts";
import { holdSession, lockQueued } from "../../control-plane/src/catalog/operations/claim.ts";
import { findOperation } from "../../control-plane/src/catalog/operations/read.ts";
import { host } from "../../control-plane/src/catalog/schema/host.ts";
import { openFleet } from "../../control-plane/src/fleet/fleet.ts";
import { revokeHost } from "../../control-plane/src/fleet/revocation.ts";
import { takeResult } from "../../control-plane/src/operations/intake/result.ts";
import { type OperationRequest, startOperation } from "../../control-plane/src/operations/start.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";

let server: PostgresServer;
let catalog: Catalog;
let other: Catalog;
let hostId: string;

beforeAll(async () => {
  server = await openPostgresServer({ major: 15 });
  const { superuser, password, port } = server;
  const url = `postgres://${superuser}:${encodeURIComponent(password)}@127.0.0.1:${port}/postgres`;
  const { signal } = new AbortController();
  catalog = await openCatalog({ url, signal });
  other = await openCatalog({ url, signal });
});
afterAll(async () => {
  await other[Symbol.asyncDispose]();
  await catalog[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});
beforeEach(async () => {
  const name = `h${newId("hst").slice(4)}`;
  ({ id: hostId } = await catalog.transaction((tx) => ensureHost(tx, { id: newId("hst"), name, labels: {} })));
});

const request = (change: Partial<OperationRequest> = {}): OperationRequest => ({
  spec: { case: "checkCluster", value: create(CheckClusterSpecSchema, { cluster: "cls_x" }) },
  hostId,
  principalId: "tok_x",
  requestId: "",
  call: {
    principal: "me",
    tokenId: null,
    action: "ClusterService/CheckCluster",
    request: { cluster: "x" },
    peerAddress: "",
  },
  subject: { id: "cls_x", name: "x" },
  ...change,
});
const start = (change?: Partial<OperationRequest>) => catalog.transaction((tx) => startOperation(tx, request(change)));
const reason = async (work: Promise<unknown>) => {
  const error: unknown = await work.then(
    () => undefined,
    (caught: unknown) => caught,
  );
  return isFailure(error) ? error.reason : error;
};
const certify = async () => {
  const fingerprint = newId("cmd");
  const [notBefore, notAfter] = [new Date(), new Date(Date.now() + 60_000)];
  await insertCertificate(catalog.db, { fingerprint, hostId, serial: "1", notBefore, notAfter });
  return fingerprint;
};
const claimAs = (db: Catalog, fence: bigint) =>
  db.transaction(async (tx) => {
    const row = await lockQueued(tx, hostId, { kinds: [], atOnce: 1 });
    if (row === undefined) return undefined;
    return await changeOperation(
      tx,
      { id: row.id, states: ["QUEUED"] },
      {
        state: "DISPATCHED",
        fenceIncarnation: db.incarnation,
        fenceNumber: fence,
        attempt: 1,
        commandId: `cmd_${fence}`,
      },
    );
  });

test("a request id that comes a hundred times at once makes one operation", async () => {
  const requestId = newId("cmd");
  const rows = await Promise.all(Array.from({ length: 100 }, () => start({ requestId })));
  expect(new Set(rows.map(({ id }) => id)).size).toBe(1);
});

test("a request id that was used for something else is refused", async () => {
  const requestId = newId("cmd");
  const { id } = await start({ requestId });
  const { call } = request();
  expect(await reason(start({ requestId, call: { ...call, request: { cluster: "y" } } }))).toBe("REQUEST_ID_REUSED");
  expect((await start({ requestId, principalId: "tok_other" })).id).not.toBe(id);
});

test("two dispatchers that claim at once never get the same operation", async () => {
  const ids = await Promise.all(Array.from({ length: 20 }, async () => (await start()).id));
  const claims = await Promise.all(
    Array.from({ length: 40 }, async (_, index) => claimAs(index % 2 === 0 ? catalog : other, BigInt(index + 1))),
  );
  const claimed = claims.flatMap((row) => (row === undefined ? [] : [row.id]));
  expect(new Set(claimed).size).toBe(claimed.length);
  expect(claimed.every((id) => ids.includes(id))).toBe(true);
});

test("a change with an old fence, or from another state, changes nothing", async () => {
  const { id } = await start();
  const claimed = await claimAs(catalog, 7n);
  expect(claimed?.id).toBe(id);
  const stale = { id, states: ["DISPATCHED"] as const, fence: { incarnation: catalog.incarnation, number: 6n } };
  expect(await changeOperation(catalog.db, stale, { state: "RUNNING" })).toBeUndefined();
  const older = { ...stale, fence: { incarnation: catalog.incarnation - 1n, number: 7n } };
  expect(await changeOperation(catalog.db, older, { state: "RUNNING" })).toBeUndefined();
  const elsewhere = { ...stale, states: ["RUNNING"] as const, fence: { incarnation: catalog.incarnation, number: 7n } };
  expect(await changeOperation(catalog.db, elsewhere, { state: "CANCELLING" })).toBeUndefined();
  expect((await findOperation(catalog.db, id))?.row).toEqual(claimed);
});

test("a result with another fence, command or host does not end the operation", async () => {
  const { id: operationId } = await start();
  await claimAs(catalog, 9n);
  const fence = { incarnation: catalog.incarnation, number: 9n };
  const result = { case: "checkCluster" as const, value: {} };
  const right = { commandId: "cmd_9", operationId, attempt: 1, fence, result };
  const take = (change: Partial<Omit<typeof right, "result">>, host = hostId) =>
    catalog.transaction((tx) => takeResult(tx, host, create(ResultSchema, { ...right, ...change })));
  expect(await take({ fence: { ...fence, number: 8n } })).toBe("old");
  expect(await take({ fence: { ...fence, incarnation: fence.incarnation - 1n } })).toBe("old");
  expect(await take({ commandId: "cmd_8" })).toBe("old");
  expect(await take({ operationId: newId("op") })).toBe("old");
  expect(await take({}, newId("hst"))).toBe("old");
  expect((await findOperation(catalog.db, operationId))?.row.state).toBe("DISPATCHED");
});

test("each change of an operation has a greater revision than the one before", async () => {
  const { id, revision } = await start();
  const claimed = await claimAs(catalog, 11n);
  expect(claimed?.revision).toBeGreaterThan(revision);
  const running = await changeOperation(other.db, { id, states: ["DISPATCHED"] }, { state: "RUNNING" });
  expect(running?.revision).toBeGreaterThan(claimed?.revision ?? revision);
});

test("of two operations with the same exclusive key the second is refused until the first has ended", async () => {
  const exclusiveKey = newId("cmd");
  const { id } = await start({ exclusiveKey });
  expect(await reason(start({ exclusiveKey }))).toBe("OPERATION_CONFLICT");
  await changeOperation(catalog.db, { id, states: ["QUEUED"] }, { state: "CANCELLED", endTime: new Date() });
  expect((await start({ exclusiveKey })).id).not.toBe(id);
});

test("an operation on a backup that is gone does not start", async () => {
  const spec = { case: "deleteBackup" as const, value: create(DeleteBackupSpecSchema) };
  expect(await reason(start({ spec, backupIds: [newId("bkp")] }))).toBe("BACKUP_NOT_FOUND");
});

test("only the present session of a host may take its work, and a newer one waits for what it takes", async () => {
  const about = { bootId: "boot", agentVersion: "", machineName: "", capabilities: [], silentMs: 1000, askedMs: 0 };
  const fingerprint = await certify();
  const session = { ...about, fingerprint };
  const [first, second] = [await nextSessionEpoch(catalog.db), await nextSessionEpoch(catalog.db)];
  await catalog.transaction((tx) => acceptSession(tx, { hostId, epoch: first, ...session }));
  const order: string[] = [];
  const newer = Promise.withResolvers<unknown>();
  await catalog.transaction(async (tx) => {
    expect(await holdSession(tx, { hostId, sessionEpoch: first })).toBe(true);
    newer.resolve(
      other
        .transaction((otherTx) => acceptSession(otherTx, { hostId, epoch: second, ...session }))
        .then(() => order.push("accepted")),
    );
    await nextFenceNumber(tx);
    order.push("claimed");
  });
  await newer.promise;
  expect(order).toEqual(["claimed", "accepted"]);
  expect(await catalog.transaction((tx) => holdSession(tx, { hostId, sessionEpoch: first }))).toBe(false);
});

test("a certificate that is revoked after it let an agent in begins no session", async () => {
  const session = { bootId: "boot", agentVersion: "", machineName: "", capabilities: [], silentMs: 1000, askedMs: 0 };
  const fingerprint = await certify();
  await catalog.transaction((tx) => revokeHost(tx, hostId, new Date()));
  // A greater epoch than the revocation's, as when the certificate was looked at just before.
  const epoch = await nextSessionEpoch(catalog.db);
  expect(await catalog.transaction((tx) => acceptSession(tx, { hostId, fingerprint, epoch, ...session }))).toBe(
    "removed",
  );
});

test("a host that nobody has heard since long is not connected any more as soon as a control plane starts", async () => {
  const silent = { state: "CONNECTED", lastSeenTime: new Date(Date.now() - 3_600_000) } as const;
  await catalog.db.update(host).set(silent).where(eq(host.id, hostId));
  const heard = await catalog.transaction((tx) =>
    ensureHost(tx, { id: newId("hst"), name: `h${newId("hst").slice(4)}`, labels: {} }),
  );
  await catalog.db.update(host).set({ state: "CONNECTED", lastSeenTime: new Date() }).where(eq(host.id, heard.id));
  const changed: string[] = [];
  await using _fleet = await openFleet({
    catalog,
    log: openLog({ level: "silent", name: "test" }),
    heartbeatMs: 60_000,
    callbacks: {
      onHello: async () => {},
      serve: async () => {},
      onReport: async () => {},
      onStateChange: async (id) => void changed.push(id),
    },
  });
  expect((await findHost(catalog.db, hostId))?.state).toBe("UNKNOWN");
  expect((await findHost(catalog.db, heard.id))?.state).toBe("CONNECTED");
  expect(changed).toEqual([hostId]);
});
