import { RestoreDecision } from "@coppice/proto/gen/coppice/common/v1/held_database";
import type { Operation } from "@coppice/proto/gen/coppice/control/v1/operation";
import { fail, isFailure } from "@coppice/proto/kit/failure";
import type { Api } from "../../client/api.ts";
import { hasEnded } from "../../client/has-ended.ts";
import { confirm } from "../../input/confirm.ts";
import { conclude, type OperationOptions, seeThrough, seeToEnd } from "../../operation/conclude.ts";
import { exitCodes } from "../../exit-code.ts";
import { formatOutcome } from "../../operation/outcome.ts";
import type { Session } from "../../session.ts";

/** What is said beside which restore is meant. */
export interface DecideOptions extends OperationOptions {
  readonly yes?: boolean;
}

/** A database that waits beside the one whose place it may take. */
interface Waiting {
  readonly restore: Operation;
  /** Its name for now. */
  readonly beside: string;
  readonly target: string;
  readonly cluster: string;
}

function waitingOf(restore: Operation): Waiting | undefined {
  const { spec, result } = restore;
  if (spec.case !== "recoverPart" || result.case !== "recoveredPart" || !result.value.held) return undefined;
  const { targetDatabase: target, targetClusterName: cluster } = spec.value;
  return { restore, beside: result.value.held.name, target, cluster };
}

/**
 * Sees a restore that replaces nothing by itself to its end, shows how the rows differ from the live ones, and swaps what
 * was restored in once that is confirmed. Errors: CONFIRMATION_NEEDED; then it stays beside, and nothing was replaced.
 */
export async function swapOnceConfirmed(
  session: Session,
  api: Api,
  started: Operation,
  options: DecideOptions,
): Promise<number> {
  if (options.wait === false) return await seeThrough(session, api, started, options);
  const { ended, isCancelled } = await seeToEnd(session, api, started, options);
  const waiting = waitingOf(ended);
  if (waiting && !isCancelled) return await swapIn(session, api, waiting, options);
  const exitCode = await conclude(session, api, ended);
  return isCancelled ? exitCodes.interrupted : exitCode;
}

async function swapIn(session: Session, api: Api, waiting: Waiting, options: DecideOptions): Promise<number> {
  const { restore, beside, target, cluster } = waiting;
  const { terminal } = session;
  const isAsked = options.yes || terminal.stdinIsTty;
  // Where nobody can be asked it is the answer: of a program, too.
  if (isAsked) terminal.err(formatOutcome(restore, { paint: terminal.paintErr, now: session.now() }));
  else await conclude(session, api, restore);
  const what = `database ${target} in ${cluster} is replaced by it, and everybody in it is disconnected`;
  try {
    await confirm(session, { yes: options.yes, what, name: target });
  } catch (error) {
    if (!isFailure(error, "CONFIRMATION_NEEDED")) throw error;
    fail("CONFIRMATION_NEEDED", `database ${target} in ${cluster} is as it was: replacing it was not confirmed`, {
      hint: `${beside} stays beside it: swap it in with \`coppice restore swap ${restore.id}\`, or drop it with \`coppice restore drop ${restore.id}\``,
    });
  }
  return await decide(session, api, { restore, decision: RestoreDecision.SWAP, options });
}

async function decide(
  session: Session,
  api: Api,
  {
    restore,
    decision,
    options,
  }: { readonly restore: Operation; readonly decision: RestoreDecision; readonly options: DecideOptions },
): Promise<number> {
  const requestId = session.newRequestId();
  const decided = await api.restores.decideRestore({ operation: restore.id, decision, requestId });
  return await seeThrough(session, api, decided, options);
}

async function requireWaiting(api: Api, id: string): Promise<Waiting> {
  const restore = await api.operations.getOperation({ operation: id });
  const waiting = waitingOf(restore);
  if (waiting) return waiting;
  return fail(
    "NOTHING_TO_DECIDE",
    hasEnded(restore)
      ? `operation ${id} has left no database beside that waits to be swapped in`
      : `operation ${id} has not ended yet`,
    { hint: `look at it: coppice operation get ${id}` },
  );
}

/**
 * The operation that did what is asked for once more; undefined while it was not done. Fails as the decision itself, where
 * the other one was taken, before anybody is asked anything.
 */
async function doneBefore(api: Api, { restore }: Waiting, decision: RestoreDecision): Promise<Operation | undefined> {
  try {
    await api.restores.decideRestore({ operation: restore.id, decision, validateOnly: true });
    return undefined;
  } catch (error) {
    const { reason, metadata } = api.failureOf(error);
    if (reason !== "NOTHING_TO_DECIDE" || metadata["decision"] !== RestoreDecision[decision]) throw error;
    return await api.operations.getOperation({ operation: metadata["operation"] ?? "" });
  }
}

/** `coppice restore swap OPERATION`: shows the difference once more, and asks. */
export async function swapRestored(session: Session, options: DecideOptions, id: string): Promise<number> {
  const api = await session.api();
  const waiting = await requireWaiting(api, id);
  const done = await doneBefore(api, waiting, RestoreDecision.SWAP);
  return await (done ? conclude(session, api, done) : swapIn(session, api, waiting, options));
}

/** `coppice restore drop OPERATION`. */
export async function dropRestored(session: Session, options: DecideOptions, id: string): Promise<number> {
  const api = await session.api();
  const waiting = await requireWaiting(api, id);
  const done = await doneBefore(api, waiting, RestoreDecision.DROP);
  if (done) return await conclude(session, api, done);
  const { restore, beside, target, cluster } = waiting;
  const what = `database ${beside} in ${cluster} is dropped; ${target} stays as it is`;
  await confirm(session, { yes: options.yes, what, name: beside });
  return await decide(session, api, { restore, decision: RestoreDecision.DROP, options });
}
