import { create, createFileRegistry, fromJson, type JsonValue, toJson } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { WireType } from "@bufbuild/protobuf/wire";
import { expect, test } from "vitest";
import { Failure } from "./failure.ts";
import { openLog, redactMessage } from "./log.ts";

// A message with every place where a secret may lie, built here so that no real one has to have them all.
function login() {
  const field = (name: string, number: number, more: Record<string, JsonValue>) => ({
    name,
    jsonName: name,
    number,
    label: "LABEL_OPTIONAL",
    ...more,
  });
  const nested = { typeName: ".t.Login", type: "TYPE_MESSAGE" };
  const secret = { options: { debugRedact: true } };
  const entry = {
    name: "NamedEntry",
    options: { mapEntry: true },
    field: [field("key", 1, { type: "TYPE_STRING" }), field("value", 2, nested)],
  };
  const message = {
    name: "Login",
    field: [
      field("user", 1, { type: "TYPE_STRING" }),
      field("password", 2, { type: "TYPE_STRING", ...secret }),
      field("keys", 3, { type: "TYPE_BYTES", label: "LABEL_REPEATED", ...secret }),
      field("one", 4, { oneofIndex: 0, ...nested }),
      field("secret", 5, { oneofIndex: 0, ...nested, ...secret }),
      field("many", 6, { label: "LABEL_REPEATED", ...nested }),
      field("named", 7, { label: "LABEL_REPEATED", type: "TYPE_MESSAGE", typeName: ".t.Login.NamedEntry" }),
    ],
    oneofDecl: [{ name: "which" }],
    nestedType: [entry],
  };
  const file = { name: "login.proto", package: "t", syntax: "proto3", messageType: [message] };
  const schema = createFileRegistry(fromJson(FileDescriptorSetSchema, { file: [file] })).getMessage("t.Login");
  if (!schema) throw new Error("the test's own descriptor is broken");
  return schema;
}

function logged(write: (log: ReturnType<typeof openLog>) => void): Record<string, unknown>[] {
  const lines: string[] = [];
  write(openLog({ level: "info", name: "test", to: { write: (line) => void lines.push(line) } }));
  return lines.map((line) => JSON.parse(line) as Record<string, unknown>);
}

test("redactMessage clears marked fields at any depth and leaves the message itself alone", () => {
  const schema = login();
  const json = {
    user: "ann",
    password: "p1",
    keys: ["cDI="],
    one: { user: "bob", password: "p3" },
    many: [{ user: "cid", password: "p4" }],
    named: { d: { user: "dan", password: "p5", secret: { user: "p6" } } },
  };
  const message = fromJson(schema, json);
  const redacted = toJson(schema, redactMessage(schema, message));
  expect(redacted).toEqual({
    user: "ann",
    one: { user: "bob" },
    many: [{ user: "cid" }],
    named: { d: { user: "dan" } },
  });
  expect(toJson(schema, message)).toEqual(json);
});

test("redactMessage drops a marked member of a oneof and fields that it does not know", () => {
  const schema = login();
  const message = fromJson(schema, { secret: { user: "p" } });
  message.$unknown = [{ no: 99, wireType: WireType.LengthDelimited, data: new Uint8Array([1, 112]) }];
  const redacted = redactMessage(schema, message);
  expect(toJson(schema, redacted)).toEqual({});
  expect(redacted.$unknown).toBeUndefined();
  expect(create(schema)).toEqual(redacted);
});

test("a failure is logged with its reason, metadata and causes", () => {
  const failure = new Failure("AGENT_LOST", "agent db7 is lost", {
    metadata: { host: "hst_x" },
    operation: "op_x",
    cause: new Error("reset by peer"),
  });
  const [line] = logged((log) => log.error({ err: failure }, "backup failed"));
  expect(line).toMatchObject({
    level: "error",
    name: "test",
    msg: "backup failed",
    err: { reason: "AGENT_LOST", metadata: { host: "hst_x" }, operation: "op_x", cause: { message: "reset by peer" } },
  });
});

test("a driver's error is logged without its statement and values", () => {
  const cause = Object.assign(new Error("duplicate key"), { code: "23505" });
  const error = Object.assign(new Error("Failed query: insert hunter2", { cause }), {
    query: "insert",
    params: ["hunter2"],
  });
  const [line] = logged((log) => log.error({ err: error }, "it failed"));
  expect(JSON.stringify(line)).not.toContain("hunter2");
  expect(line).toMatchObject({ err: { cause: { code: "23505" } } });
});

test("lines below the level are not written", () => {
  expect(logged((log) => log.debug("quiet"))).toEqual([]);
});
