import { type Operation, OperationState } from "@coppice/proto/gen/coppice/control/v1/operation";
import { Failure, failureFromDetail } from "@coppice/proto/kit/failure";
import { exitCodeOf, exitCodes } from "../exit-code.ts";
import { formatChecks } from "./checks.ts";
import { nameKnown } from "./name-known.ts";
import { itemsOfPlan } from "./plan.ts";
import { formatPartlyRestored } from "./restored.ts";
import { formatElapsed } from "../output/elapsed.ts";
import { formatFailure } from "../output/failure.ts";
import { printable } from "../output/printable.ts";
import type { Terminal } from "../output/terminal.ts";
import { workedMs } from "./outcome.ts";
import { describeRead, formatWalProblems } from "./verified.ts";

/** Why an operation did not succeed, as a failure to be shown: which one, in which phase, where, after how long. */
function setbackOf(operation: Operation): Failure {
  const { id, state, failure, hostName, progress, stateReason } = operation;
  const phase = progress?.work?.phase;
  const where = `${phase ? ` in ${phase}` : ""}${hostName ? ` on ${hostName}` : ""} (${formatElapsed(workedMs(operation))})`;
  if (state === OperationState.CANCELLED) {
    return new Failure("CANCELLED", `${id} was cancelled${where}`, { hint: failure?.hint || undefined });
  }
  if (!failure) return new Failure("OUTCOME_UNKNOWN", `${id} failed${where}: ${stateReason || "no reason is known"}`);
  const told = failureFromDetail(failure);
  return new Failure(told.reason, `${id} failed${where}: ${told.message}`, {
    code: told.code,
    hint: nameKnown(told.hint, operation),
    fields: told.fields,
  });
}

/** What is known to be safe by the operation's own account: that nothing of it is left. */
function safeBy({ leavings, spec, result }: Operation): string[] {
  if (leavings.length > 0) return [];
  const makesSomething =
    spec.case === "createBackup" ||
    spec.case === "createPhysicalBackup" ||
    spec.case === "createRestore" ||
    spec.case === "recoverPart";
  return makesSomething && result.case === undefined ? ["nothing half-made was left behind"] : [];
}

/**
 * What a person gets to see of an operation that failed or was cancelled, and the exit code. `safe` adds what is still
 * safe whatever happened.
 */
export function formatSetback(
  operation: Operation,
  paint: Terminal["paint"],
  safe: readonly string[] = [],
): { readonly text: string; readonly exitCode: number } {
  const failure = setbackOf(operation);
  const { result } = operation;
  let details = "";
  let exitCode = exitCodeOf(failure);
  switch (result.case) {
    case "checkedCluster":
    case "checkedRepository":
    case "physicalPlan":
      details = formatChecks(result.value.items, paint);
      break;
    case "restorePlan":
      details = formatChecks(itemsOfPlan(result.value), paint);
      break;
    case "verifiedBackup":
      details = result.value.problems
        .map(
          ({ key, message, affects }) => `  ${printable(key)}: ${printable(message)}; affects ${printable(affects)}\n`,
        )
        .join("");
      break;
    case "verifiedWal":
      details = `  ${describeRead(result.value.objects, result.value.bytes, workedMs(operation))}\n${formatWalProblems(result.value)}`;
      break;
    case "createdBackup":
      details =
        result.value.databases === 0
          ? `  ${result.value.backup} is stored with none of its databases, only with roles and tablespaces\n`
          : `  ${result.value.backup} is stored with ${result.value.databases} of its databases and can be restored\n`;
      exitCode = exitCodes.partial;
      break;
    case "rebuiltRepository":
      details = result.value.problems.map((problem) => `  ${printable(problem)}\n`).join("");
      break;
    case "restoredCluster":
      details = formatPartlyRestored(result.value);
      if (result.value.restored.length > 0) exitCode = exitCodes.partial;
      break;
    case "cleanedRepository":
    case "cleanedWal":
    case "createdPhysicalBackup":
    case "decidedRestore":
    case "recoveredPart":
    case "restoredDataDirectory":
    case "restoredDatabase":
    case "restoredGlobals":
    case "deletedBackup":
    case undefined:
  }
  const facts = { left: operation.leavings.join("; "), safe: [...safeBy(operation), ...safe].join("; ") };
  return { text: formatFailure(failure, paint, facts) + details, exitCode };
}
