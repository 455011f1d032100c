import type { JsonValue } from "@bufbuild/protobuf";
import { newId } from "@coppice/proto/kit/id";
import { insertAuditRecord } from "../catalog/audit.ts";
import type { Database } from "../catalog/catalog.ts";

/** A call that changes something, as the audit keeps it. */
export interface AuditedCall {
  /** Name of the token, agent:<host name>, or system. */
  readonly principal: string;
  /** Id of the token, where there is one. */
  readonly tokenId: string | null;
  /** Service and method: BackupService/CreateBackup. */
  readonly action: string;
  /** The request as proto JSON, already without its secret fields. */
  readonly request: JsonValue;
  readonly peerAddress: string;
}

/** What a call was about. */
export interface AuditSubject {
  readonly id: string;
  readonly name: string;
  readonly operationId?: string;
}

/** Writes the audit row of a mutation; `tx` is the transaction that makes it. */
export async function writeAudit(tx: Database, call: AuditedCall, subject: AuditSubject): Promise<void> {
  await insertAuditRecord(tx, {
    id: newId("aud"),
    ...call,
    subject: subject.id,
    subjectName: subject.name,
    operationId: subject.operationId ?? null,
  });
}
