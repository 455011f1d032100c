import { expect, test } from "vitest";
import { crc32c } from "./crc32c.ts";

test("the check value of the algorithm comes out, at once and in pieces of any size", () => {
  const bytes = Buffer.from("123456789".repeat(11));
  expect(crc32c(Buffer.from("123456789"))).toBe(0xe3069283);
  expect(crc32c(Buffer.alloc(32))).toBe(0x8a9136aa);
  const whole = crc32c(bytes);
  for (let at = 0; at <= bytes.length; at++)
    expect(crc32c(bytes.subarray(at), crc32c(bytes.subarray(0, at)))).toBe(whole);
});
