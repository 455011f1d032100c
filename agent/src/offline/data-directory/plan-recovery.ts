import { create } from "@bufbuild/protobuf";
import { RecoveryAction, RecoveryTargetSchema } from "@coppice/proto/gen/coppice/common/v1/recovery_target";
import { planRecovery } from "@coppice/proto/kit/recovery/plan";
import type { RecoveryInput } from "@coppice/proto/kit/recovery/recovery-input";
import type { RecoveryPlan } from "@coppice/proto/kit/recovery/recovery-plan";
import { formatInstant } from "@coppice/proto/kit/recovery-point/instant";
import { type RecoveryFlags, recoveryTargetOf } from "@coppice/proto/kit/recovery-point/recovery-flags";
import { parseTarget, serverTarget } from "@coppice/proto/kit/recovery-point/recovery-target";
import { refuseUnreachable } from "@coppice/proto/kit/recovery-point/refuse-unreachable";
import { formatLsn } from "@coppice/proto/kit/wal/lsn";
import { formatSize } from "@coppice/proto/kit/size";
import type { WalPlace } from "../../repository/layout.ts";
import type { Storage } from "../../storage/storage.ts";
import { seeWalEnd } from "../../wal/fetch/see-wal-end.ts";
import type { FoundCluster } from "../catalog.ts";
import { findCommits, type WalSource } from "./find-commits.ts";
import { readRecoveryInput } from "./read-recovery-input.ts";

/** How a point is reached by what a repository holds. */
export interface PlannedRecovery {
  readonly plan: RecoveryPlan;
  /** What the server is told. */
  readonly target: ReturnType<typeof serverTarget>;
  readonly input: RecoveryInput;
  readonly place: WalPlace;
}

/**
 * Plans recovery to the point of the flags with nothing but a repository, by the planner that the control plane asks.
 * Fails with RECOVERY_TARGET_UNREACHABLE and the nearest points, or as readRecoveryInput and findCommits do.
 */
export async function planFromRepository(
  cluster: FoundCluster,
  { flags, backup, now }: { flags: RecoveryFlags; backup: string | undefined; now: Date },
  source: Omit<WalSource, "place">,
): Promise<PlannedRecovery> {
  const target = parseTarget(create(RecoveryTargetSchema, recoveryTargetOf(flags, now)));
  const known = await readRecoveryInput(source, cluster, backup);
  const { place } = known;
  const commits = target.kind === "time" ? await findCommits(known, target, { ...source, place }) : [];
  const input: RecoveryInput = { ...known, commits };
  const plan = planRecovery(input, target);
  if (plan.kind === "unreachable") return refuseUnreachable(cluster.name, plan);
  return { plan, target: serverTarget(plan.serverTarget, RecoveryAction.PROMOTE), input, place };
}

/**
 * The position that recovery has to reach; undefined where the plan does not know. Fails as seeWalEnd does where it would
 * not come there.
 */
export async function seePlannedEnd(
  storage: Storage,
  { plan, input, place, target }: PlannedRecovery,
  { identities, signal }: Pick<WalSource, "identities" | "signal">,
): Promise<bigint | undefined> {
  const { leastLsn: endLsn, walRepository, startLsn, timelines } = plan;
  if (endLsn === undefined || walRepository === undefined) return endLsn;
  const first = timelines[0] ?? target.timeline;
  return await seeWalEnd(storage, {
    place,
    segmentBytes: input.segmentBytes,
    startLsn,
    timelines: { first, last: Math.max(first, target.timeline) },
    endLsn,
    isToEnd: target.point.case === undefined,
    identities,
    signal,
  });
}

/** The plan in lines, for people. */
export function describeRecovery({ chain, timelines, startLsn, ...plan }: RecoveryPlan): string[] {
  const { endLsn, mostLsn, walRepository, walBytes, segments, completeUntilUs, warnings } = plan;
  const along = timelines.length === 1 ? `timeline ${timelines[0]}` : `timelines ${timelines.join(", ")}`;
  const wal =
    walRepository === undefined
      ? "with the WAL that is in the backup"
      : `by ${segments} archived segment${segments === 1n ? "" : "s"}, ${formatSize(walBytes)} of WAL`;
  return [
    `${chain.at(-1)} is recovered from ${formatLsn(startLsn)} to ${formatLsn(endLsn ?? mostLsn)} on ${along} ${wal}`,
    ...(completeUntilUs === undefined
      ? []
      : [`what was committed up to ${formatInstant(completeUntilUs)} will be there, except what unlogged tables hold`]),
    ...warnings.map(({ message }) => `! ${message}`),
  ];
}
