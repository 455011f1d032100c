import { expect, test } from "vitest";
import { isFailure } from "../failure.ts";
import { formatInstant, parseInstant } from "./instant.ts";

const now = new Date("2026-11-21T12:00:00.500Z");

test.each([
  ["2026-11-21 14:03:07+01", "2026-11-21T13:03:07Z"],
  ["2026-11-21T14:03:07.25+01:00", "2026-11-21T13:03:07.25Z"],
  ["2026-11-21 14:03:07 -0330", "2026-11-21T17:33:07Z"],
  ["2026-11-20 02:55 Europe/Berlin", "2026-11-20T01:55:00Z"],
  ["2026-07-20 02:55 Europe/Berlin", "2026-07-20T00:55:00Z"],
  ["2026-11-20 02:55 UTC", "2026-11-20T02:55:00Z"],
  ["2026-11-20T02:55:00.000001Z", "2026-11-20T02:55:00.000001Z"],
  ["2026-11-20T02:55:00.123456999Z", "2026-11-20T02:55:00.123456Z"],
  ["2026-01-01 00:00 Pacific/Kiritimati", "2025-12-31T10:00:00Z"],
  ["2026-03-29 01:59:59 Europe/Berlin", "2026-03-29T00:59:59Z"],
  ["2026-03-29 03:00 Europe/Berlin", "2026-03-29T01:00:00Z"],
  ["2026-10-25 01:59:59 Europe/Berlin", "2026-10-24T23:59:59Z"],
  ["2026-10-25 03:00 Europe/Berlin", "2026-10-25T02:00:00Z"],
  ["2024-02-29 00:00 UTC", "2024-02-29T00:00:00Z"],
  ["2 hours ago", "2026-11-21T10:00:00.5Z"],
  ["1 minute ago", "2026-11-21T11:59:00.5Z"],
  ["1h30m ago", "2026-11-21T10:30:00.5Z"],
  ["3 days ago", "2026-11-18T12:00:00.5Z"],
])("%s is %s", (text, instant) => {
  expect(formatInstant(parseInstant(text, now))).toBe(instant);
  expect(parseInstant(instant, now)).toBe(parseInstant(text, now));
});

test.each([
  ["2026-11-21 14:03:07", "does not say in which time zone"],
  ["2026-11-21", "is no point in time"],
  ["yesterday", "is no point in time"],
  ["2026-11-21 14:03:07 CST", "is no time zone"],
  ["2026-11-21 14:03:07 Europe/Nowhere", "is no time zone"],
  ["2026-11-21 14:03:07+16", "is no time zone"],
  ["2026-02-30 14:03 UTC", "is on no calendar"],
  ["2026-11-21 24:00 UTC", "is on no calendar"],
  ["2026-11-21 14:60 UTC", "is on no calendar"],
  ["2026-03-29 02:30 Europe/Berlin", "put forward over that time"],
  ["2026-10-25 02:30 Europe/Berlin", "that time came twice"],
  ["some time ago", "does not say how long ago"],
  ["2 fortnights ago", "does not say how long ago"],
])("%s is refused, since it %s", (text, message) => {
  expect(() => parseInstant(text, now)).toThrow(message);
});

test("a time without a zone is refused with what to write, and one that came twice with both", () => {
  const hintOf = (text: string) => {
    try {
      parseInstant(text, now);
    } catch (error) {
      if (isFailure(error)) return error.hint;
    }
    return undefined;
  };
  expect(hintOf("2026-11-21 14:03")).toBe(
    'write "2026-11-21 14:03 UTC", "2026-11-21 14:03+01" or "2026-11-21 14:03 Europe/Berlin"',
  );
  expect(hintOf("2026-10-25 02:30 Europe/Berlin")).toBe(
    'write which of them: "2026-10-25T00:30:00Z" or "2026-10-25T01:30:00Z"',
  );
});
