import { fail } from "../failure.ts";
import { formatLsn } from "../wal/lsn.ts";
import { timestampOf } from "./microseconds.ts";
import type { ReachablePoint, Unreachable } from "../recovery/recovery-plan.ts";
import { timestampDate } from "@bufbuild/protobuf/wkt";

/** Says why a target cannot be reached, and what can be. Errors: RECOVERY_TARGET_UNREACHABLE, always. */
export function refuseUnreachable(clusterName: string, unreachable: Unreachable): never {
  const { message, reason, before, after, unusable, timelines = [] } = unreachable;
  // What was written just now is not stored before its segment is ended.
  const soon =
    reason === "too-late"
      ? "; where it has only just passed and WAL is archived, wait for its max age, 60 s unless it was set otherwise, and ask again"
      : "";
  const points = [
    before === undefined ? "" : `before it ${describe(before)}`,
    after === undefined ? "" : `after it ${describe(after)}`,
  ].filter((text) => text !== "");
  const [first] = unusable;
  const hint =
    reason === "backup-unusable"
      ? `name another one, or leave --backup out: coppice backup list --cluster ${clusterName}`
      : timelines.length > 0
        ? `name a timeline that is known: ${timelines.join(", ")}; or leave --timeline out`
        : points.length > 0
          ? `what can be reached: ${points.join("; ")}${soon}`
          : first === undefined
            ? `take a full backup: coppice backup create ${clusterName} --kind full`
            : `of ${unusable.length} backups none can be used; ${first.backup}: ${first.problem}`;
  return fail("RECOVERY_TARGET_UNREACHABLE", `cluster ${clusterName}: ${message}`, {
    hint,
    metadata: {
      ...(before ? { before: formatLsn(before.lsn) } : {}),
      ...(after ? { after: formatLsn(after.lsn) } : {}),
    },
  });
}

function describe({ timeline, lsn, timeUs, backup }: ReachablePoint): string {
  const at = timeUs === undefined ? `LSN ${formatLsn(lsn)}` : timestampDate(timestampOf(timeUs)).toISOString();
  const of = backup === undefined ? "" : `, the end of backup ${backup}`;
  return `${at} on timeline ${timeline}${of}`;
}
