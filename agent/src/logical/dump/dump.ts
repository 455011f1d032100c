import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { type BackupDumpResult, BackupDumpResultSchema } from "@coppice/proto/gen/coppice/agent/v1/backup_dump";
import { BackupKind } from "@coppice/proto/gen/coppice/common/v1/backup_kind";
import {
  type BackupManifest,
  BackupManifestSchema,
  type DumpedDatabase,
  MissingReason,
} from "@coppice/proto/gen/coppice/repository/v1/manifest";
import type { StoredStream } from "@coppice/proto/gen/coppice/repository/v1/stored_object";
import { Failure, isFailure } from "@coppice/proto/kit/failure";
import { sleep } from "@coppice/proto/kit/sleep";
import { majorOf } from "../../postgres/majors.ts";
import { digestRoles } from "../../postgres/roles-digest.ts";
import { clearAway } from "../../repository/leavings/clear-away.ts";
import { recipeName } from "../../repository/layout.ts";
import { manifestObjects } from "../../repository/manifest-objects.ts";
import { commitManifest, storeText } from "../../repository/put.ts";
import { isCompleteWithout, type NotDumped } from "./choose-databases.ts";
import { dumpDatabases, endsBackup, type FailedDatabase } from "./dump-databases.ts";
import { dumpGlobals } from "./dump-globals.ts";
import { dumpWholeCluster } from "./dump-whole-cluster.ts";
import { connectForDump, type DumpRequest, prepareDump, type PreparedDump } from "./prepare-dump.ts";
import { dumpProgress, type ReportDump } from "./dump-progress.ts";
import { formatRecipe } from "./recipe.ts";

/** A committed dump, with a BACKUP_INCOMPLETE when it lacks databases that were wanted. */
export interface Dumped {
  readonly result: BackupDumpResult;
  readonly failure: Failure | undefined;
}

/** What the cluster looks like afterwards. */
interface Afterwards {
  /** The failed databases, with those that are gone. */
  readonly missing: readonly NotDumped[];
  readonly rolesChanged: boolean;
}

const serverBackMs = 60_000;
const lookPauseMs = 500;

const asFailed = ({ database: { name }, error }: FailedDatabase): NotDumped => ({
  name,
  reason: MissingReason.FAILED,
  message: error.message,
});

async function lookOnce(prepared: PreparedDump, failed: readonly FailedDatabase[]): Promise<Afterwards> {
  await using connection = await connectForDump(prepared, prepared.request.signal);
  const present = await connection.query<{ oid: string }>("select oid::text from pg_database");
  const missing = failed.map((each): NotDumped => {
    const { name, oid } = each.database;
    return present.some((one) => Number(one.oid) === oid)
      ? asFailed(each)
      : { name, reason: MissingReason.DROPPED, message: "it was dropped while the backup ran" };
  });
  const after = await digestRoles(connection);
  return { missing, rolesChanged: after.digest !== prepared.roles.digest };
}

/** A server that was restarted, and took a database's dump with it, is mostly back in some seconds. */
async function lookPatiently(prepared: PreparedDump, failed: readonly FailedDatabase[]): Promise<Afterwards> {
  const { signal, log } = prepared.request;
  const end = performance.now() + serverBackMs;
  for (let attempt = 1; ; attempt++) {
    try {
      return await lookOnce(prepared, failed);
    } catch (error) {
      signal.throwIfAborted();
      if (!isFailure(error, "CLUSTER_UNREACHABLE") || performance.now() > end) throw error;
      if (attempt === 1) log(`the server does not answer any more and is waited for: ${error.message}`);
      await sleep(lookPauseMs, signal);
    }
  }
}

/** What is stored whole is not given up because the server cannot be looked at once more. */
async function lookAgain(
  prepared: PreparedDump,
  { dumped, failed }: { dumped: readonly DumpedDatabase[]; failed: readonly FailedDatabase[] },
): Promise<Afterwards> {
  const { signal, log } = prepared.request;
  try {
    const seen = await lookPatiently(prepared, failed);
    if (seen.rolesChanged) log("warning: roles were changed while the dump ran");
    return seen;
  } catch (error) {
    signal.throwIfAborted();
    if (!isFailure(error) || dumped.length === 0) throw error;
    log(`warning: whether roles were changed while the dump ran cannot be seen: ${error.message}`);
    return { missing: failed.map(asFailed), rolesChanged: true };
  }
}

/** As a missing database is named. */
const wholeCluster = "cluster dump";

/** The cluster dump where it is wanted; its failure says nothing against the databases that are stored already. */
async function tryWholeCluster(
  prepared: PreparedDump,
  report: ReportDump,
): Promise<{ stream: StoredStream | undefined; missing: NotDumped[] }> {
  if (!prepared.options.given.clusterDump) return { stream: undefined, missing: [] };
  try {
    const stream = await dumpWholeCluster(prepared, (bytes) => report(wholeCluster, bytes));
    report(wholeCluster, "done");
    return { stream, missing: [] };
  } catch (error) {
    prepared.request.signal.throwIfAborted();
    if (endsBackup(error) || !isFailure(error)) throw error;
    prepared.request.log(`the cluster dump failed: ${error.message}`);
    const missing = { name: wholeCluster, reason: MissingReason.FAILED, message: error.message };
    return { stream: undefined, missing: [missing] };
  }
}

/** What a reader has to know about to restore it. */
function requiredFeatures({ encoding, options }: PreparedDump, clusterDump: StoredStream | undefined): string[] {
  return [
    ...(encoding.recipients.length > 0 ? ["age"] : []),
    ...(clusterDump ? ["cluster-dump"] : []),
    ...(options.format === "plain" ? ["plain-dump"] : []),
  ];
}

async function takeDump(prepared: PreparedDump): Promise<Dumped> {
  const { request, address, prefix, access, facts, options, encoding, hasRolePasswords, startTime } = prepared;
  const { command, storage, signal } = request;
  const sizes = prepared.chosen.chosen.map(({ name, sizeBytes }): [string, bigint | undefined] => [name, sizeBytes]);
  const known = sizes.every(([, size]) => size !== undefined);
  const all = known ? sizes.reduce((sum, [, size = 0n]) => sum + size, 0n) : undefined;
  if (options.given.clusterDump) sizes.push([wholeCluster, all]);
  const report = dumpProgress(sizes, request.onProgress);
  const globals = await dumpGlobals(prepared, (bytes) => report("globals", bytes));
  const { dumped, failed } = await dumpDatabases(prepared, report);
  const whole = await tryWholeCluster(prepared, report);
  const seen = await lookAgain(prepared, { dumped, failed });
  const missing = [...prepared.chosen.missing, ...seen.missing, ...whole.missing];
  const recipe = formatRecipe({
    clusterName: command.clusterName,
    backupId: address.backupId,
    startTime,
    serverMajor: majorOf(facts.serverVersionNum),
    toolMajor: access.tools.major,
    recipients: encoding.recipients,
    contents: options.given.contents,
    isSelection: options.isSelection,
    globals,
    hasRolePasswords,
    databases: dumped,
    clusterDump: whole.stream,
    missing,
    ...prepared.seen,
  });
  const recipeObject = await storeText(storage, { prefix, key: recipeName, text: recipe, signal });
  const manifest: BackupManifest = create(BackupManifestSchema, {
    formatVersion: 1,
    requiredFeatures: requiredFeatures(prepared, whole.stream),
    backupId: address.backupId,
    kind: BackupKind.DUMP,
    clusterId: address.clusterId,
    clusterName: command.clusterName,
    systemIdentifier: facts.systemIdentifier,
    serverVersionNum: facts.serverVersionNum,
    operationId: request.operationId,
    startTime: timestampFromDate(startTime),
    endTime: timestampFromDate(new Date()),
    complete: missing.every(isCompleteWithout),
    tools: [{ name: "pg_dump", version: access.tools.version }, ...prepared.codecTools],
    agentVersion: request.agentVersion,
    recipe: recipeObject,
    recipients: [...encoding.recipients],
    content: {
      case: "dump",
      value: {
        globals,
        hasRolePasswords,
        rolesChanged: seen.rolesChanged,
        databases: dumped,
        missing,
        ...(whole.stream ? { clusterDump: whole.stream } : {}),
        options: options.given,
        fromStandby: facts.inRecovery,
      },
    },
  });
  const committed = await commitManifest(storage, { prefix, manifest, signal });
  const stored = manifestObjects(manifest).reduce((sum, { object }) => sum + object.sizeBytes, 0n);
  const result = create(BackupDumpResultSchema, {
    manifest,
    manifestSha256: committed.sha256,
    storedBytes: stored + BigInt(committed.sizeBytes),
    facts,
    recipe,
  });
  return { result, failure: manifest.complete ? undefined : incomplete(missing) };
}

function incomplete(missing: readonly NotDumped[]): Failure {
  const wanted = missing.filter((each) => !isCompleteWithout(each));
  const list = wanted.map(({ name, message }) => `${JSON.stringify(name)}: ${message}`).join("; ");
  return new Failure("BACKUP_INCOMPLETE", `the backup is stored and lacks ${list}`, {
    hint: "mend what is named, or leave the database out by name, and take the backup again; what is stored can be restored",
  });
}

/**
 * Takes a dump of a cluster into a repository: preflight before a byte is written, globals, every database, the manifest
 * last. A database that fails does not stop the others. Whatever else fails, what was stored is removed again. Fails as
 * connections, tools and the storage do, with CLUSTER_CHANGED, DATABASE_NOT_FOUND, or the signal's reason.
 */
export async function dumpCluster(request: DumpRequest): Promise<Dumped> {
  const prepared = await prepareDump(request);
  try {
    return await takeDump(prepared);
  } catch (error) {
    const { storage, operationId, onLeaving, signal } = request;
    await clearAway(storage, { prefix: prepared.prefix, operationId, onLeaving, signal });
    throw error;
  }
}
