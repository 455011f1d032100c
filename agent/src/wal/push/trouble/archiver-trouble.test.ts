import { expect, test } from "vitest";
import type { ArchiverState } from "../archiver-state.ts";
import { archiverTrouble, type Heard } from "./archiver-trouble.ts";

const nowMs = 1_000_000_000;
const ago = (seconds: number) => nowMs - seconds * 1000;
const agoUs = (seconds: number) => BigInt(ago(seconds)) * 1000n;
const idle: ArchiverState = {
  systemIdentifier: "7",
  segmentBytes: 16n << 20n,
  dataDirectory: "/pg",
  inRecovery: false,
  timeline: 1,
  insertLsn: 0n,
  flushedLsn: 0n,
  mode: "on",
  library: "",
  command: "",
  timeoutSeconds: 60,
  waiting: 0,
  lastArchived: "",
  lastArchivedUs: agoUs(100),
  failedCount: 0n,
  lastFailed: "",
  lastFailedUs: undefined,
};
const failed = { ...idle, waiting: 3, lastFailed: "000000010000000000000007", lastFailedUs: agoUs(2) };
const heard: Heard = { sinceMs: ago(3600), lastMs: ago(100), isAnswering: false };
const found = (state: ArchiverState, over: Partial<Heard> = {}) => {
  const trouble = archiverTrouble(state, { ...heard, ...over }, nowMs);
  return trouble && `${trouble.reason} ${trouble.message}`;
};

test("a command that fails before it comes to the agent is trouble, and one that the agent refused is not this one", () => {
  expect(found(idle)).toBeUndefined();
  expect(found(failed)).toMatch(/^ARCHIVE_COMMAND_FAILING .* fails for 000000010000000000000007 before/);
  expect(found(failed, { lastMs: ago(3) })).toBeUndefined();
  expect(found(failed, { isAnswering: true })).toBeUndefined();
  // While nobody listened.
  expect(found(failed, { sinceMs: ago(1), lastMs: undefined })).toBeUndefined();
  expect(found(failed, { lastMs: undefined })).toMatch(/^ARCHIVE_COMMAND_FAILING/);
  // Of before: it was archived since.
  expect(found({ ...failed, waiting: 0, lastArchivedUs: agoUs(1) })).toBeUndefined();
  expect(found({ ...failed, waiting: undefined })).toMatch(/^ARCHIVE_COMMAND_FAILING/);
});

test("an archiver that hangs is trouble after a while, and archive_mode that is off at once", () => {
  expect(found({ ...idle, waiting: 3 })).toBeUndefined();
  expect(found({ ...idle, waiting: 3 }, { lastMs: ago(200) })).toMatch(
    /^ARCHIVE_COMMAND_FAILING .* archiver offers none/,
  );
  expect(found(idle, { lastMs: ago(9999) })).toBeUndefined();
  expect(found({ ...idle, mode: "off" })).toMatch(/^ARCHIVE_MODE_OFF/);
});
