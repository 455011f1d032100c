// Prints buf/validate/validate.proto from the descriptor inside npm's @bufbuild/protovalidate, so that the rules
// our protos are compiled against are always those of the library that checks them, and nothing is fetched.
// Comments and custom options are not in the output: generated code imports the library's own descriptor.
import { mkdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { isFieldSet } from "@bufbuild/protobuf";
import {
  type DescriptorProto,
  type EnumDescriptorProto,
  type FieldDescriptorProto,
  FieldDescriptorProtoSchema,
  FieldDescriptorProto_Label as Label,
  FieldDescriptorProto_Type as Type,
  type FileDescriptorProto,
} from "@bufbuild/protobuf/wkt";
import { file_buf_validate_validate } from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";

const scalars = new Map<number, string>([
  [Type.DOUBLE, "double"],
  [Type.FLOAT, "float"],
  [Type.INT64, "int64"],
  [Type.UINT64, "uint64"],
  [Type.INT32, "int32"],
  [Type.FIXED64, "fixed64"],
  [Type.FIXED32, "fixed32"],
  [Type.BOOL, "bool"],
  [Type.STRING, "string"],
  [Type.BYTES, "bytes"],
  [Type.UINT32, "uint32"],
  [Type.SFIXED32, "sfixed32"],
  [Type.SFIXED64, "sfixed64"],
  [Type.SINT32, "sint32"],
  [Type.SINT64, "sint64"],
]);

const labels = new Map<number, string>([
  [Label.OPTIONAL, "optional "],
  [Label.REQUIRED, "required "],
  [Label.REPEATED, "repeated "],
]);

function printField(field: FieldDescriptorProto, label: string): string {
  const type = scalars.get(field.type) ?? field.typeName;
  if (field.type === Type.GROUP || !type) {
    throw new Error(`field ${field.name} has a type that this printer does not know: ${field.type}`);
  }
  const quoted = field.type === Type.STRING || field.type === Type.BYTES;
  const options = [
    ...(isFieldSet(field, FieldDescriptorProtoSchema.field.defaultValue)
      ? [`default = ${quoted ? JSON.stringify(field.defaultValue) : field.defaultValue}`]
      : []),
    ...(field.options?.packed ? ["packed = true"] : []),
  ];
  return `${label}${type} ${field.name} = ${field.number}${options.length > 0 ? ` [${options.join(", ")}]` : ""};`;
}

function printMessage(message: DescriptorProto): string[] {
  if (message.nestedType.length + message.extension.length > 0) {
    throw new Error(`message ${message.name} nests messages or extensions, which this printer does not know`);
  }
  const inOneof = (field: FieldDescriptorProto) => isFieldSet(field, FieldDescriptorProtoSchema.field.oneofIndex);
  const isMember = (field: FieldDescriptorProto, index: number) => inOneof(field) && field.oneofIndex === index;
  return [
    `message ${message.name} {`,
    ...message.oneofDecl.flatMap((oneof, index) => [
      `  oneof ${oneof.name} {`,
      ...message.field.filter((field) => isMember(field, index)).map((field) => `    ${printField(field, "")}`),
      "  }",
    ]),
    ...message.field
      .filter((field) => !inOneof(field))
      .map((field) => `  ${printField(field, labels.get(field.label) ?? "")}`),
    ...message.enumType.flatMap((type) => printEnum(type).map((line) => `  ${line}`)),
    // The end of a range is exclusive in a descriptor, inclusive in a proto file.
    ...message.extensionRange.map(({ start, end }) => `  extensions ${start} to ${end > 536870911 ? "max" : end - 1};`),
    "}",
  ];
}

function printEnum(type: EnumDescriptorProto): string[] {
  return [
    `enum ${type.name} {`,
    ...(type.options?.allowAlias ? ["  option allow_alias = true;"] : []),
    ...type.value.map((value) => `  ${value.name} = ${value.number};`),
    "}",
  ];
}

function printFile(file: FileDescriptorProto): string {
  if (file.syntax !== "" && file.syntax !== "proto2") {
    throw new Error(`${file.name} is written in ${file.syntax}, this printer knows only proto2`);
  }
  return [
    "// Generated from the descriptor in @bufbuild/protovalidate by deploy/vendor-validate.ts. Not to be edited.",
    'syntax = "proto2";',
    `package ${file.package};`,
    ...file.dependency.map((path) => `import "${path}";`),
    ...file.enumType.flatMap(printEnum),
    ...file.messageType.flatMap(printMessage),
    ...file.extension.flatMap((field) => [
      `extend ${field.extendee} {`,
      `  ${printField(field, labels.get(field.label) ?? "")}`,
      "}",
    ]),
    "",
  ].join("\n");
}

const root = process.argv[2] ?? join(import.meta.dirname, "../proto/vendor");
const target = join(root, file_buf_validate_validate.proto.name);
await mkdir(dirname(target), { recursive: true });
await writeFile(target, printFile(file_buf_validate_validate.proto));
