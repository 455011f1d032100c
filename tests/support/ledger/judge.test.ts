import { expect, test } from "vitest";
import { type Entry, judge } from "./judge.ts";

const entry = (id: number, sent: number, acked: number | undefined): Entry => ({
  id,
  client: 1,
  sentUs: sent,
  sentLsn: BigInt(sent),
  ackedUs: acked,
  ackedLsn: acked === undefined ? undefined : BigInt(acked),
});
const entries = [entry(1, 10, 20), entry(2, 30, undefined), entry(3, 40, 50)];

test.each([
  ["what was acknowledged and not what was sent later", [1], []],
  ["what nobody knows of may be there", [1, 2], []],
  ["what was acknowledged is missed", [], ["transaction 1 of client 1, acknowledged at 20, is lost at time 35"]],
  ["what was sent later is one too many", [1, 3], ["transaction 3 of client 1, sent at 40, is there at time 35"]],
  ["what nobody sent is one too many", [1, 9], ["transaction 9 is there at time 35, and nobody sent it"]],
])("at a time %s", (_, restored, wrong) => {
  expect(judge(entries, new Set(restored), { timeUs: 35 })).toEqual(wrong);
});

test("at a position the record that begins there may be there, and one that ends there has to be", () => {
  expect(judge(entries, new Set([1, 3]), { lsn: 40n })).toEqual([]);
  expect(judge(entries, new Set([1]), { lsn: 40n })).toEqual([]);
  expect(judge(entries, new Set([1, 3]), { lsn: 39n })).toHaveLength(1);
  expect(judge(entries, new Set([1]), { lsn: 50n })).toHaveLength(1);
});
