import { expect, test } from "vitest";
import { formatStatusUpdate, parseServerTime, parseSettingMs } from "./status-update.ts";

test("a status update carries its positions, its time and whether it wants a reply", () => {
  const now = Date.UTC(2026, 0, 2, 3, 4, 5, 678);
  const body = formatStatusUpdate({ writtenLsn: 2n ** 40n, flushedLsn: 7n, isReplyWanted: true }, now);
  expect(body.length).toBe(34);
  expect(String.fromCharCode(body.readUInt8(0))).toBe("r");
  expect([body.readBigUInt64BE(1), body.readBigUInt64BE(9), body.readBigUInt64BE(17)]).toEqual([2n ** 40n, 7n, 0n]);
  expect(parseServerTime(body.readBigInt64BE(25)).getTime()).toBe(now);
  expect(body.readUInt8(33)).toBe(1);
});

test("settings are read as SHOW prints them", () => {
  expect(["0", "500ms", "5s", "1min", "2h", "1d"].map(parseSettingMs)).toEqual([
    0, 500, 5000, 60_000, 7_200_000, 86_400_000,
  ]);
  expect(() => parseSettingMs("soon")).toThrow("which is no time");
});
