import { fail } from "@coppice/proto/kit/failure";
import { planRecovery } from "@coppice/proto/kit/recovery/plan";
import type { RecoveryInput } from "@coppice/proto/kit/recovery/recovery-input";
import type { RecoveryPlan } from "@coppice/proto/kit/recovery/recovery-plan";
import type { Target } from "@coppice/proto/kit/recovery/target";
import { formatLsn } from "@coppice/proto/kit/wal/lsn";
import type { HostRow } from "../../catalog/host.ts";
import type { RepositoryRow } from "../../catalog/repository.ts";
import { mayDecrypt, requireMayDecrypt } from "../../secrets/may-decrypt.ts";

/**
 * A plan that the host may carry out: the one that is given, or, where that reads what the host may not decrypt, the best
 * of those that do not and lead to the same point, which a warning says. `readable` is what is known of repositories that it
 * may read. Errors: HOST_MAY_NOT_DECRYPT, IDENTITY_MISSING, with the backup to name where one leads elsewhere.
 */
export function readablePlan(
  plan: RecoveryPlan,
  {
    target,
    input,
    readable,
    repositories,
    host,
  }: {
    readonly target: Target;
    readonly input: RecoveryInput;
    readonly readable: RecoveryInput;
    readonly repositories: ReadonlyMap<string, RepositoryRow>;
    readonly host: HostRow;
  },
): RecoveryPlan {
  const unreadableOf = ({ repository, walRepository }: RecoveryPlan) =>
    [repository, walRepository ?? repository].map((id) => findRow(repositories, id)).find((row) => !mayRead(row, host));
  const unreadable = unreadableOf(plan);
  if (unreadable === undefined) return plan;
  const other = planRecovery(readable, target);
  const backup = other.kind === "plan" ? other.chain.at(-1) : undefined;
  if (other.kind === "plan" && isSamePoint(plan, other)) {
    const what = plan.repository === unreadable.id ? `backup ${plan.chain.at(-1)}` : "the WAL";
    const message = `${what} in repository ${unreadable.name} would be read, which host ${host.name} may not decrypt: ${backup} leads to the same point and is taken`;
    return { ...other, warnings: [...other.warnings, { code: "may-not-decrypt", message }] };
  }
  const named = backup === undefined ? undefined : planRecovery({ ...input, backup }, target);
  const instead =
    named?.kind === "plan" && unreadableOf(named) === undefined
      ? `name an older one that it may read, which leads to ${formatLsn(named.endLsn ?? named.mostLsn)} on timeline ${named.serverTarget.timeline}: --backup ${backup}`
      : "";
  requireMayDecrypt(unreadable, host, instead);
  return plan;
}

/** Whether nothing of the repository needs an identity that the host does not get. */
export function mayRead({ encryption, identitySecretId }: RepositoryRow, host: HostRow): boolean {
  return encryption === null || (identitySecretId !== null && mayDecrypt(host));
}

/** The latest, and where a backup is consistent, are as far as each leads; all else is one point of a timeline. */
function isSamePoint(one: RecoveryPlan, other: RecoveryPlan): boolean {
  const { kind, timeline } = one.serverTarget;
  if (other.serverTarget.timeline !== timeline) return false;
  if (kind !== "latest" && kind !== "immediate") return true;
  return one.endLsn !== undefined && one.endLsn === other.endLsn;
}

function findRow(repositories: ReadonlyMap<string, RepositoryRow>, id: string): RepositoryRow {
  return repositories.get(id) ?? fail("REPOSITORY_NOT_FOUND", `repository ${id} is gone`);
}
