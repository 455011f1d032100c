import { create, fromJson, type JsonValue } from "@bufbuild/protobuf";
import { type Timestamp, timestampFromDate } from "@bufbuild/protobuf/wkt";
import { type FailureDetail, FailureDetailSchema } from "@coppice/proto/gen/coppice/common/v1/failure";
import {
  type Operation,
  OperationAttemptSchema,
  OperationProgressSchema,
  OperationSchema,
  OperationState,
} from "@coppice/proto/gen/coppice/control/v1/operation";
import type { OperationRecord } from "../../catalog/operations/read.ts";
import { formatCursor } from "./cursor.ts";
import { parseStored } from "../spec.ts";
import { isTerminal } from "../states.ts";

/** An operation as clients see it. */
export function snapshot(record: OperationRecord): Operation {
  const { row, attempts, host } = record;
  const { spec } = parseStored(row.spec);
  const result = row.result === null ? undefined : parseStored(row.result).result;
  const failure = parseFailure(row.failure);
  return create(OperationSchema, {
    id: row.id,
    kind: row.kind,
    state: OperationState[row.state],
    stateReason: explain(record),
    ...(failure && { failure }),
    host: row.hostId ?? host?.id ?? "",
    hostName: host?.name ?? "",
    parent: row.parentId ?? "",
    attempts: attempts.map(({ number, startTime, endTime, failure: why, settling }) => {
      const cause = parseFailure(why);
      return create(OperationAttemptSchema, {
        number,
        settling,
        ...times({ startTime, endTime }),
        ...(cause && { failure: cause }),
      });
    }),
    ...(row.progress === null
      ? {}
      : { progress: fromJson(OperationProgressSchema, row.progress, { ignoreUnknownFields: true }) }),
    createTime: timestampFromDate(row.createTime),
    ...times(row),
    cursor: formatCursor(row.revision),
    requestId: row.requestId ?? "",
    principal: row.principal,
    leavings: row.leavings,
    spec,
    ...(result && { result }),
  });
}

/** Work whose agent is away says so: since when, and what that means for it. */
function explain({ row, host }: OperationRecord): string {
  if (isTerminal(row.state) || host === undefined || host.state === "CONNECTED") return row.stateReason;
  const since = host.stateTime.toISOString();
  const away = {
    PENDING: `the agent of ${host.name}, which has not connected yet`,
    UNKNOWN: `the agent of ${host.name}, lost at ${since}`,
    STOPPED: `the agent of ${host.name}, stopped at ${since}`,
  }[host.state];
  const reason = row.stateReason === "" ? "" : `${row.stateReason}; `;
  return row.state === "QUEUED"
    ? `${reason}waits for ${away}`
    : `${reason}nobody knows how far it is until there is word from ${away}`;
}

function times({ startTime, endTime }: { startTime: Date | null; endTime: Date | null }): {
  startTime?: Timestamp;
  endTime?: Timestamp;
} {
  return {
    ...(startTime === null ? {} : { startTime: timestampFromDate(startTime) }),
    ...(endTime === null ? {} : { endTime: timestampFromDate(endTime) }),
  };
}

function parseFailure(json: JsonValue | null): FailureDetail | undefined {
  return json === null ? undefined : fromJson(FailureDetailSchema, json, { ignoreUnknownFields: true });
}
