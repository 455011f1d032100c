import { expect, test } from "vitest";
import type { ArchiverState } from "../archiver-state.ts";
import { archiverTrouble } from "./archiver-trouble.ts";
import type { Heard } from "./hearing.ts";

/** Archived last by a clock that was ahead then. */
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
  lastArchived: "000000010000000000000006",
  lastArchivedUs: 3_600_000_000n,
  failedCount: 4n,
  lastFailed: "",
  lastFailedUs: undefined,
};
const failed = {
  ...idle,
  waiting: 3,
  failedCount: 5n,
  lastFailed: "000000010000000000000007",
  lastFailedUs: 1_000_000n,
};
const heard: Heard = { quietMs: 100_000, isAnswering: false, failedCount: 4n };
const found = (state: ArchiverState, over: Partial<Heard> = {}) => {
  const trouble = archiverTrouble(state, { ...heard, ...over });
  return trouble && `${trouble.reason} ${trouble.message}`;
};

test("a command that fails before it comes to the agent is trouble, whatever the clock says, and one that the agent refused is not this one", () => {
  expect(found(idle)).toBeUndefined();
  expect(found(failed)).toMatch(/^ARCHIVE_COMMAND_FAILING .* fails for 000000010000000000000007 before/);
  expect(found(failed, { failedCount: 5n })).toBeUndefined();
  expect(found(failed, { isAnswering: true })).toBeUndefined();
  // While nobody listened, or the server has not counted what was refused.
  expect(found(failed, { failedCount: undefined })).toBeUndefined();
  // Of before: it was archived since.
  expect(found({ ...failed, waiting: 0 })).toBeUndefined();
  expect(found({ ...failed, waiting: undefined, lastArchived: failed.lastFailed })).toBeUndefined();
  expect(found({ ...failed, waiting: undefined })).toMatch(/^ARCHIVE_COMMAND_FAILING/);
});

test("an archiver that hangs is trouble after a while, and archive_mode that is off at once", () => {
  expect(found({ ...idle, waiting: 3 })).toBeUndefined();
  expect(found({ ...idle, waiting: 3 }, { quietMs: 200_000 })).toMatch(
    /^ARCHIVE_COMMAND_FAILING .* archiver offers none/,
  );
  expect(found(idle, { quietMs: 9_999_000 })).toBeUndefined();
  expect(found({ ...idle, mode: "off" })).toMatch(/^ARCHIVE_MODE_OFF/);
});
