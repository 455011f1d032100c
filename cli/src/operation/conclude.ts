import { type Operation, OperationSchema, OperationState } from "@coppice/proto/gen/coppice/control/v1/operation";
import type { Api } from "../client/api.ts";
import { exitCodes } from "../exit-code.ts";
import { formatRelative } from "../output/elapsed.ts";
import { protoJson } from "../output/proto-json.ts";
import { timeOf } from "../output/time.ts";
import type { Session } from "../session.ts";
import { followOperation } from "./follow.ts";
import { formatOutcome, outcomeName, sawPartly, sawTrouble } from "./outcome.ts";
import { formatSetback } from "./setback.ts";
import { backupsLeft, windowsLeft } from "./wal/still-reachable.ts";

/** Flags of commands that start an operation. */
export interface OperationOptions {
  /** False with `--no-wait`. */
  readonly wait?: boolean;
  readonly cancelOnInterrupt?: boolean;
}

/** Sees a started operation to its end, or only says that it was started, and gives the exit code. */
export async function seeThrough(
  session: Session,
  api: Api,
  started: Operation,
  options: OperationOptions,
): Promise<number> {
  if (options.wait === false) {
    await session.answer({
      json: () => protoJson(OperationSchema, started),
      table: () => session.success(`${started.id} is started`, { next: `coppice operation watch ${started.id}` }),
      names: () => [started.id],
    });
    return exitCodes.done;
  }
  const { ended, isCancelled } = await seeToEnd(session, api, started, options);
  const exitCode = await conclude(session, api, ended);
  return isCancelled ? exitCodes.interrupted : exitCode;
}

/** Sees a started operation to its end, and says whether Ctrl-C cancelled it; what came of it is not written. */
export async function seeToEnd(
  session: Session,
  api: Api,
  started: Operation,
  { cancelOnInterrupt }: Pick<OperationOptions, "cancelOnInterrupt">,
): Promise<{ readonly ended: Operation; readonly isCancelled: boolean }> {
  let isCancelled = false;
  const ended = await followOperation(session, api, started.id, {
    onCancel: cancelOnInterrupt ? () => (isCancelled = true) : undefined,
  });
  return { ended, isCancelled };
}

/** Writes what came of an operation that has ended, and gives the exit code. */
export async function conclude(session: Session, api: Api, operation: Operation): Promise<number> {
  const { terminal, format } = session;
  const isDone = operation.state === OperationState.SUCCEEDED;
  const isPartly = isDone && sawPartly(operation);
  const isBad = isDone && (isPartly || sawTrouble(operation));
  // A table says it all in the failure below; a program wants the operation in any case.
  if ((isDone && !isBad) || format === "json" || format === "yaml") {
    const database = isDone && format === "table" ? await firstDatabase(api, operation) : undefined;
    await session.answer({
      json: () => protoJson(OperationSchema, operation),
      table: () => formatOutcome(operation, { paint: terminal.paint, now: session.now(), database }),
      names: () => [outcomeName(operation)],
    });
  }
  if (isBad) {
    terminal.err(formatOutcome(operation, { paint: terminal.paintErr, now: session.now() }));
    return isPartly ? exitCodes.partial : exitCodes.failed;
  }
  if (isDone) return exitCodes.done;
  const { text, exitCode } = formatSetback(operation, terminal.paintErr, await whatIsSafe(session, api, operation));
  terminal.err(text);
  return exitCode;
}

/** A database in the backup that was made, to show how it is restored. */
async function firstDatabase(api: Api, { result }: Operation): Promise<string | undefined> {
  if (result.case !== "createdBackup" || result.value.databases === 0) return undefined;
  const { databases } = await api.backups.getBackup({ backup: result.value.backup });
  return (databases.find(({ name }) => name !== "postgres" && name !== "template1") ?? databases[0])?.name;
}

/** After a failed backup: how old the last good one is. After damage was found: what there is without what is damaged. */
async function whatIsSafe(session: Session, api: Api, { spec, result }: Operation): Promise<string[]> {
  if (spec.case === "verifyWal" && result.case === "verifiedWal") return await windowsLeft(api, spec.value.cluster);
  if (spec.case === "verifyBackup" && result.case === "verifiedBackup")
    return await backupsLeft(api, spec.value.backup, session.now());
  if (spec.case === "createPhysicalBackup") {
    const { lastGoodPhysical } = await api.clusters.getCluster({ cluster: spec.value.cluster });
    if (!lastGoodPhysical) return ["there is no good physical backup yet"];
    return [`last good physical backup: ${formatRelative(timeOf(lastGoodPhysical.time), session.now())}`];
  }
  if (spec.case !== "createBackup") return [];
  const { lastGoodDump } = await api.clusters.getCluster({ cluster: spec.value.cluster });
  if (!lastGoodDump) return ["there is no good backup yet"];
  return [`last good backup: ${formatRelative(timeOf(lastGoodDump.time), session.now())}`];
}
