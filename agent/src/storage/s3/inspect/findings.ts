import type { Finding } from "../../storage.ts";
import type { BucketFacts } from "./inspect.ts";

const noticedMs = 60_000;

/** What people should know about a bucket, out of what was found. */
export function bucketFindings(facts: BucketFacts): Finding[] {
  return [
    ...rights(facts),
    { name: "region", status: "ok", message: `${facts.name} answers in region ${facts.region}`, fix: "" },
    clock(facts),
    ...conditions(facts),
    protection(facts),
    ...left(facts),
  ];
}

function rights({ missing }: BucketFacts): Finding[] {
  if (missing.length === 0) {
    return [{ name: "rights", status: "ok", message: "puts, reads, lists, deletes and aborts uploads", fix: "" }];
  }
  return missing.map(({ action, failure }) => ({
    name: action,
    // Without them backups are still taken; what was left behind waits for somebody who may.
    status: /Delete|Abort|ListBucketMultipartUploads/.test(action) ? "warning" : "failed",
    message: failure.message,
    fix: failure.hint,
  }));
}

function clock({ clockAheadMs }: BucketFacts): Finding {
  if (clockAheadMs === undefined) {
    return { name: "clock", status: "warning", message: "the server does not tell its time", fix: "" };
  }
  const seconds = Math.round(Math.abs(clockAheadMs) / 1000);
  const message = `the server's clock is ${seconds} s ${clockAheadMs < 0 ? "behind" : "ahead"}`;
  const isFine = Math.abs(clockAheadMs) < noticedMs;
  return {
    name: "clock",
    status: isFine ? "ok" : "warning",
    message,
    fix: isFine ? "" : "set this host's clock by NTP",
  };
}

function conditions({ conditionalPut }: BucketFacts): Finding[] {
  if (conditionalPut === undefined) return [];
  const message = conditionalPut
    ? "the server refuses to replace an object when it is asked to"
    : "the server ignores If-None-Match: two writers of one key are not told apart";
  return [{ name: "conditional put", status: conditionalPut ? "ok" : "warning", message, fix: "" }];
}

/** A key that may put may also replace, whatever else it may not. */
function protection({ versioning, objectLock, lockRule }: BucketFacts): Finding {
  const state = `versioning is ${versioning}, object lock is ${objectLock}${lockRule ? ` (${lockRule})` : ""}`;
  if (objectLock === "on" && lockRule !== undefined)
    return { name: "protection", status: "ok", message: state, fix: "" };
  const keeps =
    versioning === "on"
      ? "earlier versions stay until somebody deletes them"
      : "whoever may put may replace what is there";
  return {
    name: "protection",
    status: versioning === "on" ? "ok" : "warning",
    message: `${state}: ${keeps}`,
    fix:
      versioning === "on"
        ? ""
        : "switch versioning on, or make the bucket with object lock, if a stolen key must not destroy backups",
  };
}

function left({ left: keys }: BucketFacts): Finding[] {
  return keys.map((key) => ({
    name: "probe",
    status: "warning",
    message: `the probe ${key} could not be removed again`,
    fix: "delete it with a key that may",
  }));
}
