import { fail } from "../failure.ts";
import type { PlanWarning, RecoveryPlan } from "../recovery/recovery-plan.ts";

/** Warnings that a plan has to be accepted with, because without what they tell of it is not what most people ask for. */
export const acceptable = ["time-of-other-timeline", "timeline-not-followed", "wal-out-of-reach"] as const;

/** What somebody has said of the choices that a plan makes. */
export interface Accepted {
  /** Whether the backup was named. */
  readonly isBackupNamed: boolean;
  /** Codes of warnings. */
  readonly accept: readonly string[];
}

/**
 * The warnings of a plan that nobody has chosen: recovery would end elsewhere than what was asked for suggests. Naming the
 * timeline keeps the planner from those about timelines; naming the backup says how far its own WAL leads.
 */
export function unaskedWarnings({ warnings }: RecoveryPlan, { isBackupNamed, accept }: Accepted): PlanWarning[] {
  return warnings.filter(({ code }) => {
    if (!acceptable.some((each) => each === code) || accept.includes(code)) return false;
    return code === "time-of-other-timeline" || !isBackupNamed;
  });
}

/** How a person says that it is what they want. */
export function describeAccepting({ code }: PlanWarning): string {
  const timeline = code === "wal-out-of-reach" ? "" : "name the timeline that is meant with --timeline, or ";
  return `${timeline}say that it is what you want: --accept ${code}`;
}

/** Refuses a plan that nobody has chosen. Errors: RECOVERY_NOT_AS_ASKED. */
export function refuseUnasked(clusterName: string, plan: RecoveryPlan, accepted: Accepted): void {
  const [first] = unaskedWarnings(plan, accepted);
  if (first === undefined) return;
  fail("RECOVERY_NOT_AS_ASKED", `cluster ${clusterName}: ${first.message}`, {
    hint: describeAccepting(first),
    metadata: { code: first.code },
  });
}
