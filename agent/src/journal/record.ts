import { create, fromJson, type JsonValue, toJson } from "@bufbuild/protobuf";
import { type Command, CommandSchema, type Result, ResultSchema } from "@coppice/proto/gen/coppice/agent/v1/command";
import { type Fence, FenceSchema } from "@coppice/proto/gen/coppice/common/v1/fence";
import { redactMessage } from "@coppice/proto/kit/log";

/** Which command of which operation and attempt something belongs to. */
export interface CommandKey {
  readonly commandId: string;
  readonly operationId: string;
  readonly attempt: number;
  readonly fence: Fence;
}

/** One line of the journal. */
export type JournalRecord =
  | { readonly kind: "received"; readonly key: CommandKey; readonly spec?: JsonValue }
  | { readonly kind: "ended"; readonly result: Result }
  | { readonly kind: "acknowledged"; readonly key: CommandKey }
  | { readonly kind: "fence"; readonly operationId: string; readonly fence: Fence }
  | { readonly kind: "step"; readonly operationId: string; readonly name: string; readonly value: string };

/** The key of a command or result; a fence that is absent counts as the oldest. */
export function commandKey(message: Command | Result): CommandKey {
  const { commandId, operationId, attempt, fence = create(FenceSchema) } = message;
  return { commandId, operationId, attempt, fence };
}

/** The record of a command as it came in; its secrets are left out. */
export function receivedRecord(command: Command): JournalRecord {
  return {
    kind: "received",
    key: commandKey(command),
    spec: toJson(CommandSchema, redactMessage(CommandSchema, command)),
  };
}

/** One line, its line end included. */
export function formatRecord(record: JournalRecord): string {
  return `${JSON.stringify(toPlain(record))}\n`;
}

function toPlain(record: JournalRecord): JsonValue {
  switch (record.kind) {
    case "received":
      return {
        kind: record.kind,
        ...plainKey(record.key),
        ...(record.spec === undefined ? {} : { spec: record.spec }),
      };
    case "ended":
      return { kind: record.kind, result: toJson(ResultSchema, redactMessage(ResultSchema, record.result)) };
    case "acknowledged":
      return { kind: record.kind, ...plainKey(record.key) };
    case "fence":
      return { kind: record.kind, operationId: record.operationId, fence: toJson(FenceSchema, record.fence) };
    case "step":
      return { ...record };
  }
}

function plainKey({ commandId, operationId, attempt, fence }: CommandKey): Record<string, JsonValue> {
  return { commandId, operationId, attempt, fence: toJson(FenceSchema, fence) };
}

/** Reads a line back; undefined for a kind that only a newer version knows. Throws on anything else. */
export function parseRecord(line: string): JournalRecord | undefined {
  const plain = object(JSON.parse(line));
  switch (plain["kind"]) {
    case "received":
    case "acknowledged":
      return { kind: plain["kind"], key: parseKey(plain) };
    case "ended":
      return {
        kind: "ended",
        result: fromJson(ResultSchema, object(plain["result"]), { ignoreUnknownFields: true }),
      };
    case "fence":
      return { kind: "fence", operationId: text(plain["operationId"]), fence: parseFence(plain["fence"]) };
    case "step":
      return {
        kind: "step",
        operationId: text(plain["operationId"]),
        name: text(plain["name"]),
        value: text(plain["value"]),
      };
    default:
      text(plain["kind"]);
      return undefined;
  }
}

function parseKey(plain: Readonly<Record<string, JsonValue>>): CommandKey {
  return {
    commandId: text(plain["commandId"]),
    operationId: text(plain["operationId"]),
    attempt: Number(plain["attempt"]),
    fence: parseFence(plain["fence"]),
  };
}

function parseFence(value: JsonValue | undefined): Fence {
  return fromJson(FenceSchema, object(value), { ignoreUnknownFields: true });
}

function object(value: unknown): Record<string, JsonValue> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw new TypeError("not an object");
  return value as Record<string, JsonValue>;
}

function text(value: JsonValue | undefined): string {
  if (typeof value !== "string") throw new TypeError("not a text");
  return value;
}
