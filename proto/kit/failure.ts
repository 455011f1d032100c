import { randomBytes } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { type FailureDetail, FailureDetailSchema } from "../gen/coppice/common/v1/failure_pb.js";
import { type Reason, reasonInfo, type StatusCode } from "./reasons.ts";

/** One refused field of a request: where, what is wrong, what was expected; never the value of a secret. */
export interface RefusedField {
  /** Path as the proto spells it: options.jobs, endpoint.host. */
  readonly field: string;
  readonly description?: string;
  readonly expected: string;
  readonly value?: string;
}

/** What a failure may say besides its reason and message. */
export interface FailureOptions {
  /** What to do next; the reason's own hint when left out. */
  readonly hint?: string | undefined;
  /** Facts by name; never a secret. */
  readonly metadata?: Readonly<Record<string, string>> | undefined;
  readonly fields?: readonly RefusedField[] | undefined;
  /** Id of the operation that failed. */
  readonly operation?: string | undefined;
  /** The error underneath: for the log only, it never leaves the process. */
  readonly cause?: unknown;
}

/** The one error of Coppice that people and programs get to see: a reason out of the table, a message, what to do next. */
export class Failure extends Error {
  override readonly name = "Failure";
  /** A `Reason`, or one that only a newer peer knows. */
  readonly reason: string;
  readonly code: StatusCode;
  readonly hint: string;
  readonly metadata: Readonly<Record<string, string>>;
  readonly fields: readonly RefusedField[];
  readonly operation: string | undefined;

  /** `code` is for reasons that this version does not know; it comes with the message that brought them. */
  constructor(reason: Reason | (string & {}), message: string, options: FailureOptions & { code?: StatusCode } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    const info = reasonInfo(reason);
    this.reason = reason;
    this.code = info?.code ?? options.code ?? "unknown";
    this.hint = options.hint || (info?.hint ?? "");
    this.metadata = options.metadata ?? {};
    this.fields = options.fields ?? [];
    this.operation = options.operation;
  }
}

/**
 * Throws a Failure. `throw fail(…)` reads well and does the same; where a failure is wanted as a value
 * (to abort a controller, to reject later) it is `new Failure(…)`.
 */
export function fail(reason: Reason, message: string, options?: FailureOptions): never {
  const failure = new Failure(reason, message, options);
  // The trace begins where the trouble was seen, not here.
  Error.captureStackTrace(failure, fail);
  throw failure;
}

/** Whether the error is a Failure, of the given reason when one is named. */
export function isFailure(error: unknown, reason?: Reason): error is Failure {
  return error instanceof Failure && (reason === undefined || error.reason === reason);
}

/**
 * Makes a Failure out of whatever was thrown. A cancelled or timed-out signal's error keeps its meaning; anything else
 * that is not a Failure becomes INTERNAL with a reference in its metadata and the original, whose text may hold
 * anything, only as its cause.
 */
export function toFailure(error: unknown): Failure {
  if (error instanceof Failure) return error;
  const name = error instanceof Error ? error.name : "";
  if (name === "AbortError") return new Failure("CANCELLED", "it was cancelled", { cause: error });
  if (name === "TimeoutError") return new Failure("DEADLINE_EXCEEDED", "it took too long", { cause: error });
  const reference = randomBytes(6).toString("hex");
  return new Failure("INTERNAL", `something unexpected happened, reference ${reference}`, {
    metadata: { reference },
    cause: error,
  });
}

/** The message that carries a failure to another process; the cause stays here. */
export function failureToDetail(failure: Failure): FailureDetail {
  return create(FailureDetailSchema, {
    reason: failure.reason,
    message: failure.message,
    hint: failure.hint,
    metadata: { ...failure.metadata },
    fields: failure.fields.map(({ field, description, expected, value }) => ({
      field,
      description: description ?? `expected ${expected}`,
      expected,
      ...(value === undefined ? {} : { value }),
    })),
    operation: failure.operation ?? "",
  });
}

/** The failure that another process reported; `code` is what came with it and counts only for reasons unknown here. */
export function failureFromDetail(detail: FailureDetail, code: StatusCode = "unknown"): Failure {
  return new Failure(detail.reason, detail.message, {
    code,
    hint: detail.hint,
    metadata: detail.metadata,
    fields: detail.fields.map(({ field, description, expected, value }) => ({
      field,
      description,
      expected,
      ...(value === undefined ? {} : { value }),
    })),
    operation: detail.operation || undefined,
  });
}
