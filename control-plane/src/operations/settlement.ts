import { create } from "@bufbuild/protobuf";
import type { Result } from "@coppice/proto/gen/coppice/agent/v1/command";
import type { RepositoryTarget } from "@coppice/proto/gen/coppice/agent/v1/repository_target";
import { type SettleCommand, SettleCommandSchema, type SettleResult } from "@coppice/proto/gen/coppice/agent/v1/settle";
import { backoffMs } from "@coppice/proto/kit/backoff";
import { Failure, failureToDetail } from "@coppice/proto/kit/failure";
import type { Database } from "../catalog/catalog.ts";
import { countAttempts, endAttempt } from "../catalog/operations/attempt.ts";
import { changeOperation } from "../catalog/operations/change.ts";
import { insertLogLines } from "../catalog/operations/log.ts";
import type { OperationRow } from "../catalog/operations/row.ts";
import { parseCommand } from "./command.ts";
import { failureToJson, finishAttempt } from "./ending/ending.ts";
import type { CommandSpec, Facts } from "./kinds/kind.ts";
import { parseSpec } from "./spec.ts";

const lookPause = { baseMs: 2000, capMs: 600_000 };
/** Lines that the control plane adds to a log lie after those that the agent numbers. */
const firstOwnLine = 1n << 40n;

/** The command that finds out how the lost one of an operation ended, and clears away what it left. */
export function settleCommand(row: OperationRow, facts: Facts): CommandSpec {
  if (row.command === null) throw new Error(`operation ${row.id} has no command to settle`);
  const { spec } = parseCommand(row.command);
  return { case: "settle", value: create(SettleCommandSchema, { lost: lost(spec, facts) }) };
}

/** The number of the attempt that the operation's last real command belonged to. */
export function lostAttempt({ command }: OperationRow): number {
  return command === null ? 0 : parseCommand(command).attempt;
}

function lost(spec: CommandSpec | { case: undefined }, facts: Facts): SettleCommand["lost"] {
  switch (spec.case) {
    case "backupDump":
    case "restoreDatabase":
      // The same place as then, but the secrets as they are now.
      if (spec.value.connection) {
        spec.value.connection.passwordSecret = facts.cluster?.connection.passwordSecret ?? "";
      }
      return withPresentSecrets(spec, facts);
    case "backupPhysical":
      if (spec.value.connection) {
        spec.value.connection.passwordSecret = facts.cluster?.connection.passwordSecret ?? "";
      }
      refresh(spec.value.parent?.repository, facts.chain?.[0]?.address.repository);
      refresh(spec.value.walRepository, facts.walRepository);
      return withPresentSecrets(spec, facts);
    case "restorePhysical":
      for (const [index, { repository }] of spec.value.chain.entries()) {
        refresh(repository, facts.chain?.[index]?.address.repository);
      }
      refresh(spec.value.walRepository, facts.walRepository);
      return spec;
    case "recoverPart": {
      const { restore, load, live } = spec.value;
      for (const [index, { repository }] of (restore?.chain ?? []).entries()) {
        refresh(repository, facts.chain?.[index]?.address.repository);
      }
      refresh(restore?.walRepository, facts.walRepository);
      if (load?.connection) load.connection.passwordSecret = facts.cluster?.connection.passwordSecret ?? "";
      if (live) live.passwordSecret = facts.live?.connection.passwordSecret ?? "";
      return spec;
    }
    case "decideRestore":
      if (spec.value.connection) {
        spec.value.connection.passwordSecret = facts.cluster?.connection.passwordSecret ?? "";
      }
      return spec;
    case "deleteBackup":
      return withPresentSecrets(spec, facts);
    case undefined:
    case "restoreGlobals":
    case "scanRepository":
    case "cleanRepository":
    case "cleanWal":
    case "checkCluster":
    case "checkRepository":
    case "verifyBackup":
    case "verifyWal":
    case "planPart":
    case "planPhysical":
    case "planRestore":
    case "settle":
      throw new Error(`a ${spec.case} is repeated, not settled`);
  }
}

function withPresentSecrets<
  S extends Exclude<SettleCommand["lost"], { case: "decideRestore" | "recoverPart" | "restorePhysical" }>,
>(spec: S, facts: Facts): S {
  refresh(spec.value?.backup?.repository, facts.repository ?? facts.backup?.address.repository);
  return spec;
}

/** Gives a place as it was then what is needed to reach it now. */
function refresh(then: RepositoryTarget | undefined, now: RepositoryTarget | undefined): void {
  if (then === undefined || now === undefined) return;
  if (now.secrets !== undefined) then.secrets = now.secrets;
  then.identitySecret = now.identitySecret;
  // The same place, but a server may have got other keys.
  const [before, present] = [then.location?.kind, now.location?.kind];
  if (before?.case === "ssh" && present?.case === "ssh") before.value.hostKeys = present.value.hostKeys;
}

/** Takes in what a look has found; when it could not look, it looks again later. */
export async function takeSettlement(tx: Database, row: OperationRow, result: Result): Promise<void> {
  const { failure, cancelled } = result;
  if (failure !== undefined || cancelled || result.result.case !== "settle") {
    const why =
      failure ??
      failureToDetail(
        new Failure("AGENT_ANSWER_INVALID", `the agent answered settle with ${result.result.case ?? "nothing"}`),
      );
    await lookAgain(tx, row, result, why);
    return;
  }
  const { spec, kind } = parseSpec(row.spec);
  const { outcome, removed } = result.result.value;
  await logRemoved(tx, row, removed);
  if (outcome.case === undefined) {
    const none = new Failure("AGENT_LOST", `the agent was lost while it worked on it; ${sayLeft(result.leavings)}`, {
      hint: `start it again; what was cleared away: \`coppice operation logs ${row.id}\``,
    });
    await finishAttempt(tx, row, { is: "void", failure: failureToDetail(none), leavings: result.leavings });
    return;
  }
  const applied = kind.apply(spec, { result: outcome satisfies SettleResult["outcome"] });
  await finishAttempt(tx, row, { is: "answered", applied, isCancelled: false, leavings: result.leavings });
}

function sayLeft(leavings: readonly string[]): string {
  return leavings.length === 0 ? "nothing of it is left" : `this is left: ${leavings.join("; ")}`;
}

async function lookAgain(
  tx: Database,
  row: OperationRow,
  { leavings }: Result,
  failure: Parameters<typeof failureToJson>[0],
): Promise<void> {
  const { looks } = await countAttempts(tx, row.id);
  const retryAt = new Date(Date.now() + Math.max(lookPause.baseMs / 2, backoffMs(looks - 1, lookPause)));
  await endAttempt(tx, { operationId: row.id, number: row.attempt, failure: failureToJson(failure, row.id) });
  await changeOperation(
    tx,
    { id: row.id, states: ["INDETERMINATE"] },
    {
      commandId: null,
      progress: null,
      retryAt,
      leavings: [...row.leavings, ...leavings],
      stateReason: `how it ended could not be found out yet: ${failure.message}; it is looked at again`,
    },
  );
}

async function logRemoved(tx: Database, row: OperationRow, removed: readonly string[]): Promise<void> {
  const time = new Date();
  await insertLogLines(
    tx,
    removed.map((what, index) => ({
      operationId: row.id,
      attempt: row.attempt,
      line: firstOwnLine + BigInt(index),
      time,
      text: `cleared away: ${what}`,
    })),
  );
}
