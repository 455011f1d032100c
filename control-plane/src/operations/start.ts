import { createHash } from "node:crypto";
import { fail } from "@coppice/proto/kit/failure";
import { newId } from "@coppice/proto/kit/id";
import { type AuditedCall, writeAudit } from "../audit/audit.ts";
import type { Database } from "../catalog/catalog.ts";
import {
  countBefore,
  findLeases,
  findSameWork,
  insertLeases,
  insertOperation,
  lockBackups,
  lockRequest,
} from "../catalog/operations/insert.ts";
import { findRequestedOperation } from "../catalog/operations/read.ts";
import type { OperationRow } from "../catalog/operations/row.ts";
import { insertSecret } from "../catalog/secret.ts";
import { hostLimit } from "./kinds/host-limit.ts";
import type { OperationSpec } from "./kinds/kind.ts";
import { kindName, specToJson } from "./spec.ts";

/** One operation of a group. Each is begun when the one before it has succeeded. */
export interface OperationPart {
  readonly id: string;
  readonly spec: OperationSpec;
  readonly hostId: string;
  readonly clusterId?: string | undefined;
  readonly repositoryId?: string | undefined;
  readonly exclusiveKey?: string | undefined;
}

/** An operation to start. */
export interface OperationRequest {
  /** Given where the spec holds names that were made of it (op_…); a new one when left out. */
  readonly id?: string | undefined;
  readonly spec: OperationSpec;
  /** Host whose agent does the work; undefined for a group. */
  readonly hostId: string | undefined;
  readonly clusterId?: string | undefined;
  readonly repositoryId?: string | undefined;
  /** What a group is made of, in order, with ids that grow; the group holds the leases for all of them. */
  readonly parts?: readonly OperationPart[] | undefined;
  /** Backups that are used until the operation has ended. */
  readonly backupIds?: readonly string[] | undefined;
  /** Of two operations with the same key, the second is refused while the first has not ended. */
  readonly exclusiveKey?: string | undefined;
  /** A secret that its spec refers to, and that is forgotten when it has ended. */
  readonly secret?: { readonly id: string; readonly purpose: string; readonly sealed: Uint8Array } | undefined;
  readonly principalId: string;
  /** Idempotency key; empty is none. */
  readonly requestId: string;
  /** The call, for the audit; its request also tells a repeated request id from a reused one. */
  readonly call: AuditedCall;
  /** What the call is about, for the audit. */
  readonly subject: { readonly id: string; readonly name: string };
}

/**
 * Queues an operation with its leases and its audit row, all within the caller's transaction; a repeated request gives
 * the operation that the first one made. Errors: REQUEST_ID_REUSED, BACKUP_IN_USE, BACKUP_NOT_FOUND,
 * OPERATION_CONFLICT.
 */
export async function startOperation(tx: Database, request: OperationRequest): Promise<OperationRow> {
  const { spec, principalId, requestId, call } = request;
  if (requestId !== "") {
    const earlier = await findRepeated(tx, { principalId, requestId, call });
    if (earlier !== undefined) return earlier;
  }
  const kind = kindName(spec.case);
  const id = request.id ?? newId("op");
  await checkLeases(tx, kind, request.backupIds ?? []);
  const row = await insertOperation(tx, {
    id,
    kind,
    spec: specToJson(spec),
    hostId: request.hostId ?? null,
    clusterId: request.clusterId ?? null,
    repositoryId: request.repositoryId ?? null,
    principal: call.principal,
    principalId,
    requestId: requestId === "" ? null : requestId,
    requestDigest: requestId === "" ? null : digestOf(call),
    exclusiveKey: request.exclusiveKey ?? null,
    stateReason: (await reasonToWait(tx, id, kind, request)) || (await turnToWaitFor(tx, kind, request)),
  });
  if (row === undefined) throw new Error("the request id was taken although it was locked");
  if (request.secret !== undefined) await insertSecret(tx, request.secret);
  await insertLeases(tx, id, request.backupIds ?? []);
  await insertParts(tx, row, request.parts ?? []);
  await writeAudit(tx, call, { ...request.subject, operationId: id });
  return row;
}

async function insertParts(tx: Database, group: OperationRow, parts: readonly OperationPart[]): Promise<void> {
  let afterId: string | null = null;
  for (const { id, spec, hostId, clusterId, repositoryId, exclusiveKey } of parts) {
    await insertOperation(tx, {
      id,
      kind: kindName(spec.case),
      spec: specToJson(spec),
      hostId,
      parentId: group.id,
      afterId,
      clusterId: clusterId ?? null,
      repositoryId: repositoryId ?? null,
      principal: group.principal,
      principalId: group.principalId,
      exclusiveKey: exclusiveKey ?? null,
      stateReason: afterId === null ? "" : `waits for ${afterId}, which is before it in ${group.id}`,
    });
    afterId = id;
  }
}

/**
 * The operation that an earlier request of the same id made, for handlers whose checks would refuse a repeated one.
 * Requests of the same id wait for each other until the transaction ends. Errors: REQUEST_ID_REUSED.
 */
export async function findRepeated(
  tx: Database,
  { principalId, requestId, call }: Pick<OperationRequest, "principalId" | "requestId" | "call">,
): Promise<OperationRow | undefined> {
  await lockRequest(tx, principalId, requestId);
  const earlier = await findRequestedOperation(tx, principalId, requestId);
  if (earlier !== undefined && earlier.requestDigest !== digestOf(call)) {
    fail("REQUEST_ID_REUSED", `the request id ${JSON.stringify(requestId)} belongs to ${earlier.id}`, {
      operation: earlier.id,
    });
  }
  return earlier;
}

function digestOf({ action, request }: AuditedCall): string {
  return createHash("sha256")
    .update(JSON.stringify([action, request]))
    .digest("hex");
}

/** Any number may read a backup; who deletes it must be alone. */
async function checkLeases(tx: Database, kind: string, backupIds: readonly string[]): Promise<void> {
  const there = await lockBackups(tx, backupIds);
  const gone = backupIds.find((id) => !there.includes(id));
  if (gone !== undefined) fail("BACKUP_NOT_FOUND", `there is no backup ${gone}`);
  const leases = await findLeases(tx, backupIds);
  const inTheWay = leases.find((lease) => kind === "delete_backup" || lease.kind === "delete_backup");
  if (inTheWay !== undefined) {
    fail("BACKUP_IN_USE", `${inTheWay.id} (${inTheWay.kind}) uses the backup ${backupIds.join(", ")}`, {
      operation: inTheWay.id,
    });
  }
}

async function reasonToWait(
  tx: Database,
  id: string,
  kind: string,
  { clusterId, repositoryId }: OperationRequest,
): Promise<string> {
  const isBackup = kind === "create_backup" || kind === "create_physical_backup";
  if (!isBackup || clusterId === undefined || repositoryId === undefined) return "";
  const other = await findSameWork(tx, { id, kind, clusterId, repositoryId });
  return other === undefined ? "" : `waits for ${other}, which backs up the same cluster into the same repository`;
}

async function turnToWaitFor(tx: Database, kind: string, { spec, hostId }: OperationRequest): Promise<string> {
  const { atOnce, heavy } = hostLimit;
  if (hostId === undefined || !heavy.includes(spec.case)) return "";
  const before = await countBefore(tx, { kind, hostId });
  return before < atOnce
    ? ""
    : `waits for its turn: its host does ${atOnce} of this kind at once, and ${before} are before it`;
}
