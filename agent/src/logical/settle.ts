import { rm } from "node:fs/promises";
import { create } from "@bufbuild/protobuf";
import {
  type BackupDumpCommand,
  type BackupDumpResult,
  BackupDumpResultSchema,
} from "@coppice/proto/gen/coppice/agent/v1/backup_dump";
import {
  type RestoreDatabaseResult,
  RestoreDatabaseResultSchema,
  RestoreMode,
} from "@coppice/proto/gen/coppice/agent/v1/restore_database";
import { DumpContents } from "@coppice/proto/gen/coppice/common/v1/dump_options";
import type { WorkDone } from "@coppice/proto/gen/coppice/common/v1/progress";
import { fail, isFailure } from "@coppice/proto/kit/failure";
import { openConnection, type PostgresConnection } from "../postgres/connect.ts";
import { type ResolvedEndpoint, resolveEndpoint } from "../postgres/endpoint.ts";
import { settleCommitted } from "../repository/leavings/settle-committed.ts";
import type { Storage } from "../storage/storage.ts";
import { type Compared, compareDatabase } from "./compare.ts";
import { endTransaction, type IntoProgress, intoSession } from "./into/transaction.ts";
import { workFiles } from "./load.ts";
import { inspectRestore, type RestoreToPlan } from "./plan.ts";
import { expectedOf } from "./scope.ts";
import { applyToPresent, dropStagedDatabase, findDatabase, isStagedOid } from "./staged-database.ts";

/** How a lost command ended; `outcome` undefined: not to its end, and what it left is cleared away. */
export interface Settled<Result> {
  readonly outcome: Result | undefined;
  /** What was found and removed, a line each, for people to read. */
  readonly removed: string[];
}

/** Finds out how a lost dump ended, as settleCommitted does; the facts of its cluster are lost. */
export async function settleDump(
  storage: Storage,
  {
    command,
    operationId,
    signal,
    onProgress,
  }: {
    command: BackupDumpCommand;
    operationId: string;
    signal: AbortSignal;
    onProgress: (work: WorkDone) => void;
  },
): Promise<Settled<BackupDumpResult>> {
  const address = command.backup ?? fail("INVALID_FIELD", "the command names no backup");
  const { committed, removed } = await settleCommitted(storage, { address, operationId, signal, onProgress });
  return { outcome: committed && create(BackupDumpResultSchema, committed), removed };
}

/** A restore that was lost. */
export interface LostRestore extends RestoreToPlan {
  /** What onStaged was told; undefined when that is lost, or the restore never came so far: then the oid itself tells. */
  readonly stagedOid: number | undefined;
  /** What was noted last of onInto and before it; undefined when that is lost, or the restore never came to its agent. */
  readonly into?: IntoProgress | undefined;
}

async function dropStaged(connection: PostgresConnection, { command, workFolder }: LostRestore): Promise<string[]> {
  for (const file of Object.values(workFiles(workFolder, command.stagedDatabase))) await rm(file, { force: true });
  const isDropped = await dropStagedDatabase(connection, command.stagedDatabase);
  return isDropped ? [`the database ${command.stagedDatabase}`] : [];
}

/** What became of the transaction of a restore into a database, which has ended then; undefined when nothing tells. */
async function endInto({ command, into, signal }: LostRestore, endpoint: ResolvedEndpoint) {
  const xid = into?.is === "loading" ? into.xid : undefined;
  const end = await endTransaction(endpoint, { session: intoSession(command.stagedDatabase), xid, signal });
  if (into?.is === "committed") return into.is;
  return into?.is === "looking" ? "aborted" : end;
}

/**
 * A restore into a database that was there, by its one transaction: the server knows whether it was committed. Where the
 * transaction itself is not known, what was to be new there is there as a whole or not at all; rows alone leave nothing
 * to tell them by, so nobody can say. Nor can they where it is not known either whether the restore had begun.
 */
async function settleInto(lost: LostRestore, endpoint: ResolvedEndpoint): Promise<Settled<RestoreDatabaseResult>> {
  const { command, into, signal } = lost;
  for (const file of Object.values(workFiles(lost.workFolder, command.stagedDatabase))) await rm(file, { force: true });
  const end = await endInto(lost, endpoint);
  if (end === "aborted") return { outcome: undefined, removed: [] };
  const plan = await inspectRestore(lost);
  if (end === undefined) {
    if (plan.scope.selection.contents === DumpContents.DATA_ONLY || !plan.scope.entries) {
      return fail("OUTCOME_UNKNOWN", "its transaction was committed or rolled back, and nothing tells which", {
        hint: "look at the rows, then end it: coppice operation resolve ID --abandon",
      });
    }
    if (!plan.items.some(({ failure }) => isFailure(failure, "OBJECT_CLASHES")))
      return { outcome: undefined, removed: [] };
    // Who loads has looked before that nothing of it was there; nobody knows whether this one has.
    if (into === undefined)
      return fail("OUTCOME_UNKNOWN", "what it was to make is there, and nothing tells whether it has made it", {
        hint: "look whether it was there before, then end it: coppice operation resolve ID --abandon",
      });
  }
  const database = command.targetDatabase;
  const expected = expectedOf(plan.scope, plan.source.toolMajor, true);
  const comparison = { expected, access: plan.access, endpoint, database, signal, onTable: () => {} };
  const compared = await compareDatabase(comparison).catch((error: unknown): Compared | undefined => {
    if (!isFailure(error, "ARCHIVE_DIFFERS")) throw error;
    if (end === undefined) return undefined;
    return { objects: 0, tables: 0, rows: 0n, warnings: [`it was changed since it was restored: ${error.message}`] };
  });
  // Something of it was there before: then the restore was refused.
  if (!compared) return { outcome: undefined, removed: [] };
  await using connection = await openConnection(endpoint, { database: plan.adminDatabase, signal });
  // Whether they were given already nobody knows, and a second time changes nothing.
  const ungiven = await applyToPresent(connection, plan.presentStatements);
  const outcome = create(RestoreDatabaseResultSchema, {
    database,
    oid: (await findDatabase(connection, database)) ?? 0,
    objects: compared.objects,
    tables: compared.tables,
    rows: compared.rows,
    warnings: [
      ...compared.warnings,
      ...ungiven,
      "the answer of the restore was lost; what it restored was found in place",
    ],
    bytesRead: plan.source.storedBytes,
  });
  return { outcome, removed: [] };
}

/**
 * Finds out how a lost restore ended. It must not be running any more. In place: the database with the staged one's oid,
 * or with one that only the staged one could have, has the target's name, which it got only after it was compared; it is
 * compared once more for the numbers, and what differs now was changed since. Otherwise the staged database is dropped,
 * also one that the server was still creating. Fails with DATABASE_IN_USE when that does not end, and as connections and
 * the storage do.
 */
export async function settleRestore(lost: LostRestore): Promise<Settled<RestoreDatabaseResult>> {
  const { command, stagedOid, signal } = lost;
  const endpoint = await resolveEndpoint(command.connection?.endpoint, lost.password, lost.files);
  if (command.mode === RestoreMode.INTO) return await settleInto(lost, endpoint);
  const { targetDatabase: target, keptDatabase } = command;
  const database = endpoint.maintenanceDatabase === target ? "template1" : endpoint.maintenanceDatabase;
  await using connection = await openConnection(endpoint, { database, signal });
  const removed = await dropStaged(connection, lost);
  const oid = await findDatabase(connection, target);
  const isOwn =
    oid !== undefined && (stagedOid === undefined ? isStagedOid(oid, command.stagedDatabase) : oid === stagedOid);
  if (!isOwn) return { outcome: undefined, removed };
  const plan = await inspectRestore(lost);
  const compared = await compareDatabase({
    expected: expectedOf(plan.scope, plan.source.toolMajor, false),
    access: plan.access,
    endpoint,
    database: target,
    signal,
    onTable: () => {},
  }).catch((error: unknown): Compared => {
    if (!isFailure(error, "ARCHIVE_DIFFERS")) throw error;
    return { objects: 0, tables: 0, rows: 0n, warnings: [`it was changed since it was restored: ${error.message}`] };
  });
  const isKept = keptDatabase !== "" && (await findDatabase(connection, keptDatabase)) !== undefined;
  const outcome = create(RestoreDatabaseResultSchema, {
    database: target,
    oid,
    keptAs: isKept ? keptDatabase : "",
    objects: compared.objects,
    tables: compared.tables,
    rows: compared.rows,
    warnings: [...compared.warnings, "the answer of the restore was lost; it was found in place and compared again"],
    bytesRead: plan.source.storedBytes,
  });
  return { outcome, removed };
}
