import { create } from "@bufbuild/protobuf";
import { CheckStatus } from "@coppice/proto/gen/coppice/common/v1/check";
import type { RecoveryTarget } from "@coppice/proto/gen/coppice/common/v1/recovery_target";
import { type PhysicalPlan, PhysicalPlanSchema } from "@coppice/proto/gen/coppice/control/v1/physical_operation";
import { formatLsn } from "@coppice/proto/kit/wal/lsn";
import { timestampOf } from "@coppice/proto/kit/recovery-point/microseconds";
import { type Accepted, describeAccepting, unaskedWarnings } from "@coppice/proto/kit/recovery-point/refuse-unasked";
import type { RecoveryPlan } from "@coppice/proto/kit/recovery/recovery-plan";

/** A plan as people are shown it, before its host has looked. */
export function physicalPlan(
  plan: RecoveryPlan,
  {
    target,
    dataBytes,
    accepted,
  }: { readonly target: RecoveryTarget; readonly dataBytes: bigint; readonly accepted: Accepted },
): PhysicalPlan {
  const unasked = unaskedWarnings(plan, accepted);
  const { chain, timelines, startLsn, endLsn, mostLsn, segments, storedBytes, completeUntilUs, walEndLsn } = plan;
  return create(PhysicalPlanSchema, {
    chain: [...chain],
    backupTime: timestampOf(plan.backupTimeUs),
    storedBytes,
    dataBytes,
    timelines: [...timelines],
    startLsn: formatLsn(startLsn),
    endLsn: endLsn === undefined ? "" : formatLsn(endLsn),
    segments: Number(segments),
    ...(completeUntilUs === undefined ? {} : { endTime: timestampOf(completeUntilUs) }),
    serverTarget: target,
    items: [
      {
        name: "recovery",
        status: CheckStatus.OK,
        message: `from ${formatLsn(startLsn)} to ${formatLsn(endLsn ?? mostLsn)} there is WAL without a gap`,
      },
      ...plan.warnings.map((warning) => ({
        name: warning.code,
        status: unasked.includes(warning) ? CheckStatus.FAILED : CheckStatus.WARNING,
        message: warning.message,
        fix: unasked.includes(warning) ? describeAccepting(warning) : "",
      })),
    ],
    walEndLsn: walEndLsn === undefined ? "" : formatLsn(walEndLsn),
  });
}
