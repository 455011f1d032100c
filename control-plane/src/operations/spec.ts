import { create, fromJson, toJson, type JsonValue } from "@bufbuild/protobuf";
import { type Operation, OperationSchema } from "@coppice/proto/gen/coppice/control/v1/operation";
import type { CommandKind, GroupKind, Kind, OperationResult, OperationSpec, SpecCase } from "./kinds/kind.ts";
import { kinds } from "./kinds/registry.ts";

/** The spec as the catalog keeps it. */
export function specToJson(spec: OperationSpec): JsonValue {
  return toJson(OperationSchema, create(OperationSchema, { spec }));
}

/** The result as the catalog keeps it. */
export function resultToJson(result: OperationResult): JsonValue {
  return toJson(OperationSchema, create(OperationSchema, { result }));
}

/** An operation with nothing but its spec or its result. */
export function parseStored(json: JsonValue): Operation {
  // A replica of an older version may read what a newer one has written.
  return fromJson(OperationSchema, json, { ignoreUnknownFields: true });
}

/** The spec that the catalog keeps of an operation that an agent does, with its kind. */
export function parseSpec(json: JsonValue): { spec: OperationSpec; kind: CommandKind } {
  const { spec, kind } = parseAny(json);
  if (kind.does !== "command") throw new TypeError(`a ${spec.case} is a group: no agent does it`);
  return { spec, kind };
}

/** The spec that the catalog keeps of a group, with its kind. */
export function parseGroup(json: JsonValue): { spec: OperationSpec; kind: GroupKind } {
  const { spec, kind } = parseAny(json);
  if (kind.does !== "group") throw new TypeError(`a ${spec.case} is no group`);
  return { spec, kind };
}

function parseAny(json: JsonValue): { spec: OperationSpec; kind: Kind } {
  const { spec } = parseStored(json);
  if (spec.case === undefined) throw new TypeError("an operation is of a kind that this version does not know");
  return { spec, kind: kindOf(spec.case) };
}

/** The kind of that case. */
export function kindOf(specCase: SpecCase): Kind {
  return kinds[specCase];
}

/** Name of a kind as people see it: the proto's name of the case, such as create_backup. */
export function kindName(specCase: SpecCase): string {
  const field = OperationSchema.fields.find(({ localName }) => localName === specCase);
  if (field === undefined) throw new TypeError(`${specCase} is no kind of operation`);
  return field.name;
}
