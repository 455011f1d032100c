import { timestampDate } from "@bufbuild/protobuf/wkt";
import type { LogChunk } from "@coppice/proto/gen/coppice/agent/v1/session";
import type { Catalog } from "../../catalog/catalog.ts";
import { lockOperation } from "../../catalog/operations/change.ts";
import { countLogBytes, insertLogLines } from "../../catalog/operations/log.ts";
import { notifyOperation } from "../../catalog/operations/notify.ts";
import { holdsFence } from "../../catalog/operations/row.ts";

const mostLineBytes = 16_384;
/** Above this no further line is taken: with the longest last one, a log stays below 1 MB. */
const fullBytes = 1_000_000 - 2 * mostLineBytes;

/**
 * Stores lines of the operation's present or last attempt; those of any other change nothing. A log holds 1 MB: what
 * comes after that is dropped, and the last line says so.
 */
export async function takeLog(catalog: Catalog, hostId: string, chunk: LogChunk): Promise<void> {
  const { operationId, fence, firstLine, lines } = chunk;
  await catalog.transaction(async (tx) => {
    const row = await lockOperation(tx, operationId);
    if (row === undefined || row.hostId !== hostId || fence === undefined || !holdsFence(row, fence)) return;
    let bytes = await countLogBytes(tx, operationId);
    if (bytes > fullBytes) return;
    const kept = [];
    for (const [index, { time, text }] of lines.entries()) {
      // PostgreSQL's text holds no NUL.
      const clean = Buffer.from(text.replaceAll("\0", "\u{FFFD}")).subarray(0, mostLineBytes).toString();
      bytes += Buffer.byteLength(clean);
      const isFull = bytes > fullBytes;
      kept.push({
        operationId,
        attempt: row.attempt,
        line: firstLine + BigInt(index),
        time: time === undefined ? new Date() : timestampDate(time),
        text: isFull ? `${clean} [the log is full: what comes after this line is not kept]` : clean,
      });
      if (isFull) break;
    }
    await insertLogLines(tx, kept);
    await notifyOperation(tx, operationId);
  });
}
