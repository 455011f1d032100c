import { create } from "@bufbuild/protobuf";
import type { BackupDumpCommand } from "@coppice/proto/gen/coppice/agent/v1/backup_dump";
import {
  type BackupPhysicalCommand,
  BackupPhysicalResultSchema,
} from "@coppice/proto/gen/coppice/agent/v1/backup_physical";
import type { DecideRestoreCommand } from "@coppice/proto/gen/coppice/agent/v1/decide_restore";
import type { DeleteBackupCommand } from "@coppice/proto/gen/coppice/agent/v1/delete_backup";
import type { RecoverPartCommand } from "@coppice/proto/gen/coppice/agent/v1/recover_part";
import type { RestoreDatabaseCommand } from "@coppice/proto/gen/coppice/agent/v1/restore_database";
import type { RestorePhysicalCommand } from "@coppice/proto/gen/coppice/agent/v1/restore_physical";
import { type SettleResult, SettleResultSchema } from "@coppice/proto/gen/coppice/agent/v1/settle";
import { fail } from "@coppice/proto/kit/failure";
import { settleDecision } from "../logical/decide.ts";
import { settleDump, settleRestore } from "../logical/settle.ts";
import { settlePhysical } from "../physical/restore/settle.ts";
import { deleteBackup } from "../repository/delete.ts";
import { backupPrefix, manifestKey } from "../repository/layout.ts";
import { settleCommitted } from "../repository/leavings/settle-committed.ts";
import { settlePart } from "../scratch/settle-part.ts";
import { decisionOf } from "./decide-restore.ts";
import type { CommandContext, Handler } from "./handler.ts";
import { intoStep } from "./into-step.ts";
import { recoveredPart } from "./recovered-part.ts";
import { required } from "./required.ts";
import { restoredResult } from "./restored-result.ts";
import { withRestore } from "./with-restore.ts";
import { stagedOid } from "./staged-oid.ts";
import { withStorage } from "./with-storage.ts";

/** Finds out by looking how a command ended whose answer was lost, and clears away what it left. */
export const settleCommand: Handler<"settle"> = async ({ lost }, context) => {
  switch (lost.case) {
    case "backupDump":
      return { result: await settleLostDump(lost.value, context) };
    case "backupPhysical":
      return { result: await settleLostPhysical(lost.value, context) };
    case "restoreDatabase":
      return { result: await settleLostRestore(lost.value, context) };
    case "deleteBackup":
      return { result: await settleLostDelete(lost.value, context) };
    case "restorePhysical":
      return { result: await settleLostRestorePhysical(lost.value, context) };
    case "recoverPart":
      return { result: await settleLostPart(lost.value, context) };
    case "decideRestore":
      return { result: await settleLostDecision(lost.value, context) };
    case undefined:
      return fail("CAPABILITY_MISSING", "this agent cannot settle that kind of command");
  }
};

async function settleLostDump(command: BackupDumpCommand, context: CommandContext): Promise<SettleResult> {
  const { operationId, signal, progress: onProgress } = context;
  return await withStorage(command.backup?.repository, context, async (storage) => {
    const { outcome, removed } = await settleDump(storage, { command, operationId, signal, onProgress });
    return create(SettleResultSchema, { removed, ...(outcome && { outcome: { case: "backupDump", value: outcome } }) });
  });
}

async function settleLostPhysical(command: BackupPhysicalCommand, context: CommandContext): Promise<SettleResult> {
  const { operationId, signal, progress: onProgress } = context;
  const address = required(command.backup, "backup");
  return await withStorage(address.repository, context, async (storage) => {
    const { committed, removed } = await settleCommitted(storage, { address, operationId, signal, onProgress });
    const value = committed && create(BackupPhysicalResultSchema, committed);
    return create(SettleResultSchema, { removed, ...(value && { outcome: { case: "backupPhysical", value } }) });
  });
}

async function settleLostRestore(command: RestoreDatabaseCommand, context: CommandContext): Promise<SettleResult> {
  return await withRestore(command, context, async (restore) => {
    const { outcome, removed } = await settleRestore({
      ...restore,
      stagedOid: stagedOid.read(context),
      into: intoStep.read(context),
    });
    return create(SettleResultSchema, {
      removed,
      ...(outcome && { outcome: { case: "restoreDatabase", value: outcome } }),
    });
  });
}

async function settleLostRestorePhysical(
  command: RestorePhysicalCommand,
  context: CommandContext,
): Promise<SettleResult> {
  const { operationId, signal } = context;
  const noted = restoredResult.read(context);
  const { outcome, removed, left } = await settlePhysical({ command, operationId, noted, signal });
  for (const each of left) context.leaving(each);
  return create(SettleResultSchema, {
    removed,
    ...(outcome && { outcome: { case: "restorePhysical", value: outcome } }),
  });
}

async function settleLostPart(command: RecoverPartCommand, context: CommandContext): Promise<SettleResult> {
  const { operationId, signal, secret, clientFiles: files, workFolder } = context;
  const { outcome, removed } = await settlePart({
    command,
    operationId,
    targetPassword: secret(command.load?.connection?.passwordSecret ?? ""),
    files,
    workFolder,
    noted: recoveredPart.read(context),
    stagedOid: stagedOid.read(context),
    into: intoStep.read(context),
    signal,
  });
  return create(SettleResultSchema, { removed, ...(outcome && { outcome: { case: "recoverPart", value: outcome } }) });
}

async function settleLostDecision(command: DecideRestoreCommand, context: CommandContext): Promise<SettleResult> {
  const value = await settleDecision(decisionOf(command, context));
  return create(SettleResultSchema, value ? { outcome: { case: "decideRestore", value } } : {});
}

/** The manifest goes first: while it is there nothing is gone, and without it the rest only has to follow. */
async function settleLostDelete(command: DeleteBackupCommand, context: CommandContext): Promise<SettleResult> {
  const address = required(command.backup, "backup");
  return await withStorage(address.repository, context, async (storage) => {
    const manifest = await storage.stat(manifestKey(backupPrefix(address)), context.signal);
    if (manifest !== undefined) return create(SettleResultSchema);
    const value = await deleteBackup(storage, address, command.keys, context.signal);
    return create(SettleResultSchema, { outcome: { case: "deleteBackup", value } });
  });
}
