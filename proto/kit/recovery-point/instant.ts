import { fail } from "../failure.ts";
import { parseDuration } from "../duration.ts";

const units: Readonly<Record<string, number>> = {
  second: 1000,
  sec: 1000,
  minute: 60_000,
  min: 60_000,
  hour: 3_600_000,
  day: 86_400_000,
  week: 604_800_000,
};
const forms = 'write "2026-11-21 14:03:07+01", "2026-11-21 14:03:07 Europe/Berlin" or "2 hours ago"';
const dayMs = 86_400_000;

/**
 * A point in time as people write it, in microseconds since 1970: a day and a time of day with an offset, a zone's name or
 * UTC, or how long before `now`. Without a zone it is refused, and so is a time that a change of the clocks left out
 * or brought twice. What is finer than a microsecond is cut off: what a server committed until then is the same. Fails
 * with INVALID_FIELD.
 */
export function parseInstant(text: string, now: Date): bigint {
  const trimmed = text.trim();
  const ago = /^(.*\S) ?ago$/.exec(trimmed)?.[1];
  if (ago !== undefined) return BigInt(now.getTime() - parseAge(ago.trim(), text)) * 1000n;
  const parts =
    /^(\d{4})-(\d\d)-(\d\d)[ T](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,6})\d*)?)? ?(\S*)$/.exec(trimmed) ??
    fail("INVALID_FIELD", `${JSON.stringify(text)} is no point in time`, { hint: forms });
  const [, year, month, day, hour, minute, second = "00", fraction = "", zone = ""] = parts;
  const local = Date.parse(`${year}-${month}-${day}T${hour}:${minute}:${second}Z`);
  // What does not exist, such as 30 February, is taken for another day by some engines.
  if (Number.isNaN(local) || new Date(local).getUTCDate() !== Number(day) || hour === "24") {
    fail("INVALID_FIELD", `${JSON.stringify(text)} is on no calendar or clock`, { hint: forms });
  }
  return BigInt(toUtc(local, zone, trimmed)) * 1000n + BigInt(fraction.padEnd(6, "0"));
}

function parseAge(age: string, text: string): number {
  const [, count, unit = ""] = /^(\d{1,9}) ([a-z]+?)s?$/.exec(age) ?? [];
  const factor = units[unit];
  if (count !== undefined && factor !== undefined) return Number(count) * factor;
  if (/^(\d+(ms|[dhms]))+$/.test(age)) return parseDuration(age);
  return fail("INVALID_FIELD", `${JSON.stringify(text)} does not say how long ago`, {
    hint: 'write "2 hours ago", "90 minutes ago" or "1h30m ago"',
  });
}

function toUtc(local: number, zone: string, text: string): number {
  if (zone === "") {
    fail("INVALID_FIELD", `${JSON.stringify(text)} does not say in which time zone`, {
      hint: `write "${text} UTC", "${text}+01" or "${text} Europe/Berlin"`,
    });
  }
  if (/^(Z|UTC|GMT)$/i.test(zone)) return local;
  const [, sign, hours, minutes = "00"] = /^([+-])(\d\d)(?::?(\d\d))?$/.exec(zone) ?? [];
  if (hours !== undefined && Number(hours) < 16 && Number(minutes) < 60) {
    const offset = (Number(hours) * 60 + Number(minutes)) * 60_000;
    return sign === "-" ? local + offset : local - offset;
  }
  return toUtcByName(local, zone, text);
}

function toUtcByName(local: number, zone: string, text: string): number {
  const offsetAt = openZone(zone);
  // A zone changes its offset at most once in two days.
  const offsets = new Set([offsetAt(local - dayMs), offsetAt(local + dayMs)]);
  const instants = [...offsets].map((offset) => local - offset).filter((at) => at + offsetAt(at) === local);
  const [first, second] = instants;
  if (first === undefined) {
    return fail("INVALID_FIELD", `${text}: the clocks there were put forward over that time`, {
      hint: "write the time before or after it, or an offset such as +01",
    });
  }
  if (second !== undefined) {
    const offers = instants.toSorted((a, b) => a - b).map((at) => `"${formatInstant(BigInt(at) * 1000n)}"`);
    return fail("INVALID_FIELD", `${text}: the clocks there were put back, and that time came twice`, {
      hint: `write which of them: ${offers.join(" or ")}`,
    });
  }
  return first;
}

/** Gives a function from milliseconds since 1970 to the zone's offset then, in milliseconds. */
function openZone(zone: string): (at: number) => number {
  const unknown = () =>
    fail("INVALID_FIELD", `${JSON.stringify(zone)} is no time zone`, {
      hint: "write its name, such as Europe/Berlin, an offset such as +01, or UTC; short names stand for several",
    });
  // Short names such as CST mean one thing here and another there.
  if (!zone.includes("/")) return unknown();
  let format: Intl.DateTimeFormat;
  try {
    format = new Intl.DateTimeFormat("en-US", {
      timeZone: zone,
      hourCycle: "h23",
      year: "numeric",
      month: "numeric",
      day: "numeric",
      hour: "numeric",
      minute: "numeric",
      second: "numeric",
    });
  } catch (error) {
    if (error instanceof RangeError) return unknown();
    throw error;
  }
  return (at) => {
    const shown = Object.fromEntries(format.formatToParts(at).map(({ type, value }) => [type, Number(value)]));
    const { year = 0, month = 1, day = 0, hour = 0, minute = 0, second = 0 } = shown;
    return Date.UTC(year, month - 1, day, hour, minute, second) - Math.floor(at / 1000) * 1000;
  };
}

/** That point in time in UTC, as parseInstant reads it again: 2026-11-21T13:03:07.25Z. */
export function formatInstant(micros: bigint): string {
  const fraction = ((micros % 1_000_000n) + 1_000_000n) % 1_000_000n;
  const seconds = new Date(Number((micros - fraction) / 1000n)).toISOString().slice(0, 19);
  const shown = fraction === 0n ? "" : `.${fraction.toString().padStart(6, "0").replace(/0+$/, "")}`;
  return `${seconds}${shown}Z`;
}
