import { Failure } from "@coppice/proto/kit/failure";
import { expect, test } from "vitest";
import { exitCodeOf } from "./exit-code.ts";

test("a failure's reason decides the exit code", () => {
  const codes = [
    ["PROGRAM_FAILED", 4],
    ["DIGEST_MISMATCH", 1],
    ["INVALID_FIELD", 2],
    ["CONFIRMATION_NEEDED", 2],
    ["BACKUP_NOT_FOUND", 3],
    ["CONTEXT_NOT_FOUND", 3],
    ["NAME_TAKEN", 4],
    ["ETAG_MISMATCH", 4],
    ["PERMISSION_DENIED", 5],
    ["UNAUTHENTICATED", 5],
    ["CERTIFICATE_UNTRUSTED", 5],
    ["CONTROL_PLANE_UNREACHABLE", 6],
    ["DEADLINE_EXCEEDED", 7],
    ["INTERNAL", 1],
  ] as const;
  for (const [reason, code] of codes) expect(exitCodeOf(new Failure(reason, "x")), reason).toBe(code);
});

test("a reason that only a newer control plane knows goes by the status it came with", () => {
  expect(exitCodeOf(new Failure("MOON_FULL", "x", { code: "not_found" }))).toBe(3);
});
