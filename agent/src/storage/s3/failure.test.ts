import type { Failure } from "@coppice/proto/kit/failure";
import { expect, test } from "vitest";
import { type Attempted, s3Failure } from "./failure.ts";

const attempted: Attempted = {
  doing: "write",
  action: "s3:PutObject",
  name: "s3://b/p",
  key: "k",
  now: new Date("2026-01-01T00:00:00Z"),
  wasAccepted: false,
  serverAheadMs: 3_600_000,
};
const answered = (name: string, status: number, more: object = {}) =>
  Object.assign(new Error("said by the server"), { name, $metadata: { httpStatusCode: status }, ...more });

test.each([
  ["AccessDenied", 403, "REPOSITORY_NOT_WRITABLE"],
  ["Unknown", 403, "REPOSITORY_NOT_WRITABLE"],
  ["InvalidAccessKeyId", 403, "REPOSITORY_CREDENTIALS_REFUSED"],
  ["UserSuspended", 403, "REPOSITORY_CREDENTIALS_REFUSED"],
  ["QuotaExceeded", 403, "REPOSITORY_FULL"],
  ["InvalidObjectState", 403, "OBJECT_ARCHIVED"],
  ["NoSuchBucket", 404, "REPOSITORY_UNREACHABLE"],
  ["NoSuchUpload", 404, "OBJECT_MISSING"],
  ["SlowDown", 503, "REPOSITORY_UNREACHABLE"],
  ["SyntaxError", 502, "REPOSITORY_UNREACHABLE"],
  ["MalformedXML", 400, "REPOSITORY_IO_ERROR"],
])("the answer %s (%i) is %s", (name, status, reason) => {
  expect(s3Failure(answered(name, status), attempted)).toMatchObject({ reason });
});

test("a missing right is named, with what allows it", () => {
  const failure = s3Failure(answered("AccessDenied", 403), attempted) as Failure;
  expect(failure.message).toBe("repository s3://b/p: cannot write k: s3:PutObject is refused: AccessDenied, HTTP 403");
  expect(failure.hint).toContain("allow s3:PutObject");
  expect(s3Failure(answered("AccessDenied", 403), { ...attempted, doing: "read" })).toMatchObject({
    reason: "REPOSITORY_NOT_READABLE",
  });
});

test.each([
  ["AccessDenied", "REPOSITORY_NOT_WRITABLE", "s3:PutObject is refused", "in a policy"],
  ["ExpiredToken", "REPOSITORY_CREDENTIALS_REFUSED", "the session of this key is over", "renew themselves"],
  ["InvalidAccessKeyId", "REPOSITORY_CREDENTIALS_REFUSED", "knows no such access key", "the right key"],
  ["QuotaExceeded", "REPOSITORY_FULL", "the quota of the user or the bucket is used up", "raise the quota"],
  ["RequestTimeTooSkewed", "REPOSITORY_CLOCK_SKEWED", "the clock here says", ""],
  ["SignatureDoesNotMatch", "REPOSITORY_CREDENTIALS_REFUSED", "the secret is not that of", "the right secret"],
  ["UserSuspended", "REPOSITORY_CREDENTIALS_REFUSED", "the user of this key is suspended", "enabled again"],
])("the 403 that is %s is named as what it is, with what mends it", (code, reason, about, hint) => {
  const failure = s3Failure(answered(code, 403), attempted) as Failure;
  expect(failure).toMatchObject({ reason, metadata: { code, status: "403" } });
  expect(failure.message).toContain(about);
  expect(failure.hint).toContain(hint);
});

test("a key that was accepted before is not called a wrong one", () => {
  const failure = s3Failure(answered("InvalidAccessKeyId", 403), { ...attempted, wasAccepted: true }) as Failure;
  expect(failure.message).toContain("the server took this access key before and knows it no more");
  expect(failure.hint).toContain("whether the server reaches its own storage");
});

test("a wrong region says which one is right", () => {
  const redirect = answered("PermanentRedirect", 301, {
    $response: { headers: { "x-amz-bucket-region": "eu-west-3" } },
  });
  const malformed = answered("AuthorizationHeaderMalformed", 400, { Region: "eu-west-3" });
  for (const error of [redirect, malformed]) {
    expect(s3Failure(error, attempted)).toMatchObject({
      reason: "REPOSITORY_SETTINGS_REFUSED",
      hint: "set the repository's region to eu-west-3",
    });
  }
});

test("a clock that is off is told with both times", () => {
  const { message } = s3Failure(answered("RequestTimeTooSkewed", 403), attempted) as Failure;
  expect(message).toContain("the clock here says 2026-01-01T00:00:00.000Z, the server's 2026-01-01T01:00:00.000Z");
});

test("what no answer came to is unreachable, and other errors stay as they are", () => {
  const reset = Object.assign(new Error("socket hang up"), { code: "ECONNRESET" });
  expect(s3Failure(reset, attempted)).toMatchObject({ reason: "REPOSITORY_UNREACHABLE" });
  expect(s3Failure(new DOMException("late", "TimeoutError"), attempted)).toMatchObject({
    reason: "REPOSITORY_UNREACHABLE",
  });
  const untrusted = Object.assign(new Error("self-signed"), { code: "DEPTH_ZERO_SELF_SIGNED_CERT" });
  expect(s3Failure(untrusted, attempted)).toMatchObject({ hint: expect.stringContaining("PEM") as string });
  const own = new TypeError("a bug");
  expect(s3Failure(own, attempted)).toBe(own);
});
