import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { type OperationLogLine, OperationLogLineSchema } from "@coppice/proto/gen/coppice/control/v1/operation";
import { fail } from "@coppice/proto/kit/failure";
import { listLogLines } from "../../catalog/operations/log.ts";
import { findOperation } from "../../catalog/operations/read.ts";
import { formatLogCursor, parseLogCursor } from "./cursor.ts";
import { isTerminal } from "../states.ts";
import type { WatchParts } from "./watch.ts";

const pageLines = 500;

/**
 * The log of an operation after the cursor's line: what is there, and with `follow` what still comes, until the
 * operation has ended and all of it was given. Errors: OPERATION_NOT_FOUND, INVALID_FIELD.
 */
export async function* watchLog(
  { catalog, operationNotices, pollMs }: WatchParts,
  { id, cursor, follow, signal }: { id: string; cursor: string; follow: boolean; signal: AbortSignal },
): AsyncGenerator<OperationLogLine> {
  let after = parseLogCursor(cursor);
  using changes = operationNotices.subscribe(id);
  for (;;) {
    // The state is read before the lines: of an operation that had ended by then, these are all.
    const record = await findOperation(catalog.db, id);
    if (record === undefined) fail("OPERATION_NOT_FOUND", `there is no operation ${id}`);
    for (;;) {
      const lines = await listLogLines(catalog.db, { operationId: id, after, limit: pageLines });
      for (const { attempt, line, time, text } of lines) {
        after = { attempt, line };
        yield create(OperationLogLineSchema, {
          time: timestampFromDate(time),
          attempt,
          text,
          cursor: formatLogCursor(after),
        });
      }
      if (lines.length < pageLines) break;
    }
    if (!follow || isTerminal(record.row.state)) return;
    await changes.next(pollMs, signal);
  }
}
