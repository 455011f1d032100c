import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { FailureDetailSchema } from "../gen/coppice/common/v1/failure_pb.js";
import { Failure, fail, failureFromDetail, failureToDetail, isFailure, toFailure } from "./failure.ts";

function thrownBy(run: () => unknown): unknown {
  try {
    run();
  } catch (error) {
    return error;
  }
  throw new Error("nothing was thrown");
}

test("fail throws a Failure with the code and the hint of its reason", () => {
  const error = thrownBy(() => fail("CLUSTER_NOT_FOUND", "cluster shop does not exist"));
  expect(error).toMatchObject({
    reason: "CLUSTER_NOT_FOUND",
    code: "not_found",
    message: "cluster shop does not exist",
  });
  expect((error as Failure).hint).toContain("coppice cluster list");
  expect((error as Failure).stack).not.toContain("at fail ");
});

test("a hint that is given replaces the reason's own", () => {
  expect(new Failure("NAME_TAKEN", "name shop is taken", { hint: "rename the other" }).hint).toBe("rename the other");
});

test("isFailure tells reasons apart", () => {
  const failure = new Failure("NAME_TAKEN", "name shop is taken");
  expect(isFailure(failure)).toBe(true);
  expect(isFailure(failure, "NAME_TAKEN")).toBe(true);
  expect(isFailure(failure, "INTERNAL")).toBe(false);
  expect(isFailure(new Error("x"))).toBe(false);
});

test("a failure survives the wire, all but its cause", () => {
  const failure = new Failure("INVALID_FIELD", "jobs 0 is not allowed", {
    hint: "give at least 1",
    metadata: { cluster: "cls_x" },
    fields: [
      { field: "options.jobs", description: "too small", expected: "1 or more", value: "0" },
      { field: "connection.password", description: "missing", expected: "a password" },
    ],
    operation: "op_x",
    cause: new Error("secret"),
  });
  const bytes = toBinary(FailureDetailSchema, failureToDetail(failure));
  const back = failureFromDetail(fromBinary(FailureDetailSchema, bytes));
  expect(Object.entries(back)).toEqual(Object.entries(failure));
  expect(back.message).toBe(failure.message);
  expect(back.cause).toBeUndefined();
  expect(Buffer.from(bytes).includes("secret")).toBe(false);
});

test("a field without a description is described by what was expected", () => {
  const failure = new Failure("INVALID_FIELD", "name is missing", { fields: [{ field: "name", expected: "a name" }] });
  expect(failureToDetail(failure).fields[0]?.description).toBe("expected a name");
});

test("a reason of a newer peer is kept, with the code that came along", () => {
  const detail = { ...failureToDetail(new Failure("INTERNAL", "x")), reason: "MOON_FULL", hint: "wait" };
  expect(failureFromDetail(detail, "unavailable")).toMatchObject({
    reason: "MOON_FULL",
    code: "unavailable",
    hint: "wait",
  });
});

test("an unknown error becomes INTERNAL with a reference and does not leak its text", () => {
  const cause = new Error("password=hunter2");
  const failure = toFailure(cause);
  expect(failure).toMatchObject({ reason: "INTERNAL", cause });
  expect(failure.metadata["reference"]).toMatch(/^[0-9a-f]{12}$/);
  expect(failure.message).toContain(failure.metadata["reference"]);
  expect(JSON.stringify(failureToDetail(failure))).not.toContain("hunter2");
  expect(toFailure("text").reason).toBe("INTERNAL");
  expect(toFailure(undefined).reason).toBe("INTERNAL");
});

test("toFailure keeps a Failure and the meaning of a signal's error", () => {
  const failure = new Failure("NAME_TAKEN", "name shop is taken");
  expect(toFailure(failure)).toBe(failure);
  expect(toFailure(AbortSignal.abort().reason).reason).toBe("CANCELLED");
  expect(toFailure(new DOMException("late", "TimeoutError")).reason).toBe("DEADLINE_EXCEEDED");
});
