import { expect, test } from "vitest";
import { openCommitTimes } from "./commit-times.ts";

const segmentBytes = 1n << 20n;
const pageBytes = 8192;
const epochUs = 946_684_800_000_000n;

/** A page of commits at these times, in microseconds since 2000, each record 48 bytes long. */
function page(lsn: bigint, times: readonly bigint[]): Buffer {
  const bytes = Buffer.alloc(pageBytes);
  const isFirst = lsn % segmentBytes === 0n;
  bytes.writeUInt16LE(0xd116, 0);
  bytes.writeUInt16LE(isFirst ? 2 : 0, 2);
  bytes.writeBigUInt64LE(lsn, 8);
  let at = isFirst ? 40 : 24;
  for (const time of times) {
    bytes.writeUInt32LE(48, at);
    bytes.writeUInt8(1, at + 17);
    bytes.writeUInt8(255, at + 24);
    bytes.writeUInt8(22, at + 25);
    bytes.writeBigInt64LE(time, at + 26);
    at += 48;
  }
  // One of another kind fills the rest.
  bytes.writeUInt32LE(pageBytes - at, at);
  bytes.writeUInt8(10, at + 17);
  return bytes;
}
const at = (time: bigint) => time + epochUs;

test("of a segment that is not full its whole pages count, and of the full one all that ended in it", () => {
  const times = openCommitTimes(3, segmentBytes);
  times.take(page(0n, [50n, 20n, 40n]), 0n);
  times.take(page(8192n, [60n]).subarray(0, 4000), 8192n);
  expect(times.of(0n, 12_192n)).toEqual([
    { timeline: 3, startLsn: 0n, endLsn: 8192n, times: { earliestUs: at(20n), latestUs: at(50n) } },
  ]);
  times.take(page(8192n, [60n]).subarray(4000), 12_192n);
  for (let lsn = 16_384n; lsn < segmentBytes; lsn += 8192n) times.take(page(lsn, []), lsn);
  times.take(page(segmentBytes, [70n]), segmentBytes);
  expect(times.of(0n, segmentBytes)).toEqual([
    { timeline: 3, startLsn: 0n, endLsn: segmentBytes, times: { earliestUs: at(20n), latestUs: at(60n) } },
  ]);
  expect(times.of(segmentBytes, segmentBytes + 8192n)).toMatchObject([{ times: { earliestUs: at(70n) } }]);
  expect(times.of(0n, segmentBytes)).toMatchObject([{ endLsn: segmentBytes }]);
});

test("where the clock was set back another run begins, and not where two transactions overtook each other", () => {
  const times = openCommitTimes(1, segmentBytes);
  const hour = 3_600_000_000n;
  times.take(page(0n, [hour, hour + 10n, hour - 5n, 7n, 8n]), 0n);
  expect(times.of(0n, 8192n)).toEqual([
    { timeline: 1, startLsn: 0n, endLsn: 184n, times: { earliestUs: at(hour - 5n), latestUs: at(hour + 10n) } },
    { timeline: 1, startLsn: 184n, endLsn: 8192n, times: { earliestUs: at(7n), latestUs: at(8n) } },
  ]);
});

test("a stretch without any says so, and one that was not read from a record's beginning on says nothing", () => {
  const times = openCommitTimes(1, segmentBytes);
  times.take(page(0n, []), 0n);
  expect(times.of(0n, 8192n)).toEqual([{ timeline: 1, startLsn: 0n, endLsn: 8192n }]);
  expect(openCommitTimes(1, segmentBytes).of(0n, 8192n)).toEqual([]);
});
