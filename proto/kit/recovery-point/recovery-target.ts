import { create } from "@bufbuild/protobuf";
import {
  RecoveryAction,
  type RecoveryTarget,
  RecoveryTargetSchema,
} from "@coppice/proto/gen/coppice/common/v1/recovery_target";
import { fail } from "../failure.ts";
import { formatLsn, parseLsn } from "../wal/lsn.ts";
import { microsecondsOf, timestampOf } from "./microseconds.ts";
import type { Target, TargetPoint } from "../recovery/target.ts";

/** Where recovery is to end, as the planner takes it. Errors: INVALID_FIELD. */
export function parseTarget(target: RecoveryTarget): Target {
  return {
    ...parsePoint(target.point),
    exclusive: target.exclusive,
    ...(target.timeline === 0 ? {} : { timeline: target.timeline }),
  };
}

function parsePoint(point: RecoveryTarget["point"]): TargetPoint {
  switch (point.case) {
    case undefined:
      return { kind: "latest" };
    case "time":
      return { kind: "time", timeUs: microsecondsOf(point.value) };
    case "lsn":
      return { kind: "lsn", lsn: parseLsn(point.value) };
    case "xid":
      return { kind: "xid", xid: point.value };
    case "name":
      return { kind: "name", name: point.value };
    case "immediate":
      if (point.value) return { kind: "immediate" };
      return fail("INVALID_FIELD", "immediate is either true or left out", {
        fields: [{ field: "restore.physical.target.immediate", expected: "true, or another point" }],
      });
  }
}

/** What the server is told: the planner's target and what it does there. */
export function serverTarget(target: Target, action: RecoveryAction): RecoveryTarget {
  return create(RecoveryTargetSchema, {
    point: formatPoint(target),
    exclusive: target.exclusive ?? false,
    timeline: target.timeline ?? 0,
    action: action === RecoveryAction.UNSPECIFIED ? RecoveryAction.PROMOTE : action,
  });
}

function formatPoint(target: TargetPoint): RecoveryTarget["point"] {
  switch (target.kind) {
    case "latest":
      return { case: undefined };
    case "time":
      return { case: "time", value: timestampOf(target.timeUs) };
    case "lsn":
      return { case: "lsn", value: formatLsn(target.lsn) };
    case "xid":
      return { case: "xid", value: target.xid };
    case "name":
      return { case: "name", value: target.name };
    case "immediate":
      return { case: "immediate", value: true };
  }
}
