import { fail } from "@coppice/proto/kit/failure";
import { formatLsn } from "@coppice/proto/kit/wal/lsn";

/** What a segment has to be. */
export interface ExpectedSegment {
  readonly systemIdentifier: string;
  readonly timeline: number;
  readonly startLsn: bigint;
  readonly segmentBytes: bigint;
}

/** How much of a segment its first page's header takes. */
export const segmentHeaderBytes = 40;
const longHeader = 0x0002;

/**
 * Checks by the header of its first page that a segment is of the server and the position that its name says; the first
 * one of a timeline begins with pages of the timeline before it. Fails with WAL_FOREIGN.
 */
export function checkSegmentHeader(header: Buffer, expected: ExpectedSegment): void {
  const { systemIdentifier, timeline, startLsn, segmentBytes } = expected;
  const at = `the segment at ${formatLsn(startLsn)}`;
  if (header.length < segmentHeaderBytes || (header.readUInt16LE(2) & longHeader) === 0)
    fail("WAL_FOREIGN", `${at} does not begin with the header of a segment`);
  const system = header.readBigUInt64LE(24).toString();
  if (system !== systemIdentifier)
    fail("WAL_FOREIGN", `${at} is of the server with system identifier ${system} instead of ${systemIdentifier}`);
  const pageTimeline = header.readUInt32LE(4);
  if (pageTimeline === 0 || pageTimeline > timeline)
    fail("WAL_FOREIGN", `${at} is of timeline ${pageTimeline} instead of ${timeline}`);
  const address = header.readBigUInt64LE(8);
  if (address !== startLsn) fail("WAL_FOREIGN", `${at} says that it begins at ${formatLsn(address)}`);
  const size = BigInt(header.readUInt32LE(32));
  if (size !== segmentBytes) fail("WAL_FOREIGN", `${at} is of ${size} bytes instead of ${segmentBytes}`);
}
