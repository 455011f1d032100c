import { clone, type DescMessage, type Message, type MessageShape } from "@bufbuild/protobuf";
import { reflect, type ReflectMessage } from "@bufbuild/protobuf/reflect";
import { type DestinationStream, destination, type Level, type Logger, pino, stdTimeFunctions } from "pino";
import { isFailure } from "./failure.ts";

/** How much is logged, and by whom. */
export interface LogOptions {
  readonly level: Level | "silent";
  /** The program: control-plane, agent. */
  readonly name: string;
  /** Where to; standard error when left out. */
  readonly to?: DestinationStream;
}

/**
 * A log of JSON lines. Errors go under the key `err` and are reduced to what is safe: of a failure its reason and its
 * causes, of a database driver's error its code, never a statement or its values. Messages of the protocol must go
 * through redactMessage first.
 */
export function openLog({ level, name, to = destination({ dest: 2, sync: true }) }: LogOptions): Logger {
  return pino(
    {
      level,
      base: { name },
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      serializers: { err: (error: unknown) => describeError(error) },
    },
    to,
  );
}

interface ErrorDescription {
  readonly name: string;
  readonly code?: string;
  readonly message?: string;
  readonly reason?: string;
  readonly metadata?: Readonly<Record<string, string>>;
  readonly operation?: string;
  readonly stack?: string;
  readonly cause?: ErrorDescription;
}

function describeError(error: unknown, depth = 0): ErrorDescription {
  if (!(error instanceof Error))
    return { name: typeof error, message: typeof error === "string" ? error : "not an error" };
  const code =
    "code" in error && (typeof error.code === "string" || typeof error.code === "number") ? error.code : undefined;
  // Errors that carry a query repeat it, with its parameters, in their message and stack.
  const isQueryError = "query" in error;
  return {
    name: error.name,
    ...(code === undefined ? {} : { code: String(code) }),
    ...(isQueryError ? {} : { message: error.message }),
    ...(isFailure(error) ? { reason: error.reason, metadata: error.metadata } : {}),
    ...(isFailure(error) && error.operation !== undefined ? { operation: error.operation } : {}),
    ...(isQueryError || error.stack === undefined ? {} : { stack: error.stack }),
    ...(error.cause === undefined || depth >= 5 ? {} : { cause: describeError(error.cause, depth + 1) }),
  };
}

/**
 * A copy of a message without its secrets, for logs, audit, journal and stored specs: every field marked
 * `debug_redact` is cleared, at any depth, and so is what this version's descriptor does not know.
 */
export function redactMessage<Desc extends DescMessage>(schema: Desc, message: MessageShape<Desc>): MessageShape<Desc> {
  const copy = clone(schema, message);
  redact(reflect(schema, copy));
  return copy;
}

function redact(message: ReflectMessage): void {
  const raw: Message = message.message;
  delete raw.$unknown;
  for (const field of message.fields) {
    if (!message.isSet(field)) continue;
    if (field.proto.options?.debugRedact) message.clear(field);
    else if (field.fieldKind === "message") redact(message.get(field));
    else if (field.fieldKind === "list" && field.listKind === "message") {
      for (const item of message.get(field)) redact(item as ReflectMessage);
    } else if (field.fieldKind === "map" && field.mapKind === "message") {
      for (const value of message.get(field).values()) redact(value as ReflectMessage);
    }
  }
}
