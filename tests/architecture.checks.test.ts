import { expect, test } from "vitest";
import { checkDeclared, checkImports, checkKitUse, checkPaths, checkSource } from "./architecture.checks.ts";
import { parseSource } from "./architecture.source.ts";

const imports = (path: string, text: string) => checkImports(parseSource(path, text));
const source = (path: string, text: string) => checkSource(parseSource(path, text));

/** The expected part instead of each complaint that holds it, so that a table can say which part that is. */
const shortened = (wrong: string[], part: string | undefined) =>
  wrong.map((text) => (part !== undefined && text.includes(part) ? part : text));

// Each row is a file, its text, and a part of the only complaint about it; nothing where it is in order.
const importRows: [string, string, string | undefined][] = [
  ["agent/src/storage/open.ts", `import { run } from "../host/run.ts";`, undefined],
  ["agent/src/host/run.ts", `import { open } from "../storage/open.ts";`, "host may import no other folder"],
  ["agent/src/storage/open.ts", `import type { Dump } from "../logical/dump.ts";`, "storage may import host"],
  ["agent/src/storage/open.ts", `import { type Dump } from "../logical/dump.ts";`, "storage may import host"],
  ["agent/src/storage/open.ts", `export { dump } from "../logical/dump.ts";`, "storage may import host"],
  ["agent/src/storage/open.ts", `export * from "../logical/dump.ts";`, "storage may import host"],
  ["agent/src/storage/open.ts", `import "../logical/dump.ts";`, "storage may import host"],
  ["agent/src/storage/open.ts", `const m = await import("../logical/dump.ts");`, "storage may import host"],
  ["agent/src/storage/open.ts", `type T = import("../logical/dump.ts").Dump;`, "storage may import host"],
  ["agent/src/storage/open.ts", "const m = await import(name);", "computed"],
  ["agent/src/storage/open.ts", "const m = await import(`../${name}.ts`);", "computed"],
  ["agent/src/storage/open.ts", `import { app } from "../app.ts";`, "do not import app"],
  ["agent/src/storage/open.ts", `import { Budget } from "../budget.ts";`, undefined],
  ["agent/src/misplaced/x.ts", `import { run } from "../host/run.ts";`, "not in the table"],
  ["agent/src/app.ts", `import { open } from "./session/connection.ts";`, undefined],
  ["agent/src/storage/open.test.ts", `import { dump } from "../logical/dump.ts";`, undefined],
  ["agent/src/app.ts", `import { x } from "../../control-plane/src/app.ts";`, "only its own files"],
  ["agent/src/app.test.ts", `import { x } from "../../cli/src/client.ts";`, "only its own files"],
  ["cli/src/main.ts", `import { x } from "@coppice/agent/src/app.ts";`, "do not import each other"],
  ["cli/src/main.ts", `import { sleep } from "@coppice/proto/kit/sleep";`, undefined],
  ["cli/src/main.ts", `import { sleep } from "../../proto/kit/sleep.ts";`, "only its own files"],
  ["proto/kit/sleep.ts", `import { x } from "../../cli/src/client.ts";`, "the kit imports only itself"],
  ["proto/kit/failure.ts", `import { X } from "../gen/coppice/common/v1/failure_pb.js";`, undefined],
  ["control-plane/src/rpc/hosts.ts", `import { x } from "../fleet/sessions.ts";`, undefined],
  ["control-plane/src/fleet/sessions.ts", `import { x } from "../operations/registry.ts";`, "fleet may import catalog"],
  ["control-plane/src/catalog/hosts.ts", `import { x } from "../rpc/hosts.ts";`, "catalog may import no other"],
  ["control-plane/src/catalog/hosts.ts", `import { eq } from "drizzle-orm";`, undefined],
  [
    "control-plane/src/operations/settle.ts",
    `import { eq } from "drizzle-orm/pg-core";`,
    "only control-plane/src/catalog may",
  ],
  ["control-plane/src/audit/write.ts", `import postgres from "postgres";`, "only control-plane/src/catalog may"],
  ["agent/src/host/run.ts", `import { spawn } from "node:child_process";`, undefined],
  ["agent/src/logical/dump.ts", `import { spawn } from "node:child_process";`, "only agent/src/host"],
  ["agent/src/logical/dump.ts", `const { spawn } = await import("child_process");`, "only agent/src/host"],
  ["agent/src/logical/dump.test.ts", `import { spawn } from "node:child_process";`, undefined],
  ["tests/support/server.ts", `import { spawn } from "node:child_process";`, undefined],
  ["cli/src/run.ts", `import { spawn } from "node:child_process";`, undefined],
  ["agent/src/commands/check.ts", `import { status } from "@grpc/grpc-js";`, "only agent/src/session may"],
  ["control-plane/src/access/tokens.ts", `import { ConnectError } from "@connectrpc/connect";`, "ConnectError"],
  ["control-plane/src/access/tokens.ts", `import * as connect from "@connectrpc/connect";`, "ConnectError"],
  ["control-plane/src/access/tokens.ts", `import { Code } from "@connectrpc/connect";`, undefined],
  [
    "control-plane/src/retention/keep.ts",
    `import { readFile } from "node:fs/promises";`,
    "is pure and imports node:fs",
  ],
  ["control-plane/src/retention/keep.ts", `import { sleep } from "@coppice/proto/kit/sleep";`, "is pure and imports"],
  ["control-plane/src/retention/keep.ts", `import { fail } from "@coppice/proto/kit/failure";`, undefined],
  ["control-plane/src/operations/kinds/backup.ts", `import { x } from "../states.ts";`, undefined],
  [
    "control-plane/src/operations/kinds/backup.ts",
    `import { x } from "../settle.ts";`,
    "is pure and imports ../settle.ts",
  ],
  ["control-plane/src/schedule/firings.ts", `import { Cron } from "croner";`, undefined],
];

test.for(importRows)("%s: %s → %s", ([path, text, complaint]) => {
  expect(shortened(imports(path, text), complaint)).toEqual(complaint === undefined ? [] : [complaint]);
});

const useRows: [string, string, string | undefined][] = [
  ["agent/src/repository/layout.ts", "const now = Date.now();", "is pure and uses Date.now"],
  ["agent/src/repository/layout.ts", "const now = new Date();", "is pure and uses new Date()"],
  ["agent/src/repository/layout.ts", "const time = new Date(0);", undefined],
  ["agent/src/repository/layout.ts", "const chance = Math.random();", "is pure and uses Math.random"],
  ["agent/src/repository/layout.ts", "const home = process.env.HOME;", "is pure and uses process"],
  ["agent/src/repository/layout.ts", "const { process } = await step(); process(1); job.process();", undefined],
  ["agent/src/repository/put.ts", "const now = Date.now();", undefined],
  ["agent/src/repository/layout.test.ts", "const now = Date.now();", undefined],
  ["tests/x.test.ts", `test.skip("x", () => {});`, "uses test.skip"],
  ["tests/x.test.ts", `it.concurrent.only("x", () => {});`, "uses test.only"],
  ["tests/x.test.ts", `describe.todo("x");`, "uses test.todo"],
  ["tests/x.test.ts", `reader.skip(4); const only = list.only;`, undefined],
  ["tests/x.test.ts", `vi.mock("./x.ts");`, "uses vi.mock"],
  ["agent/src/app.ts", "const x = y as unknown as number;", "uses as unknown as"],
  ["agent/src/app.ts", "const x = y as number;", undefined],
  ["agent/src/app.ts", `const x = createRequire(import.meta.url)("x");`, "uses require"],
  ["deploy/x.ts", `const x = createRequire(import.meta.url)("x");`, undefined],
  ["agent/src/app.ts", "x;\n".repeat(251), "no first comment"],
  ["agent/src/app.ts", `// One thing: it is.\n${"x;\n".repeat(251)}`, undefined],
  ["agent/src/app.ts", `// One thing: it is.\n${"x;\n".repeat(400)}`, "401 lines"],
  ["agent/src/app.ts", "x;\n".repeat(250), undefined],
];

test.for(useRows)("%s: %s → %s", ([path, text, complaint]) => {
  expect(shortened(source(path, text), complaint)).toEqual(complaint === undefined ? [] : [complaint]);
});

test("a source that cannot be parsed is an error, not a source without imports", () => {
  expect(() => parseSource("cli/src/main.ts", "import {")).toThrow("cli/src/main.ts cannot be parsed");
});

test("drawers are found as files, folders and parts of names", () => {
  const paths = ["cli/src/utils/x.ts", "cli/src/string-helpers.ts", "agent/src/common/x.ts", "agent/src/host/index.ts"];
  expect(checkPaths(paths)).toHaveLength(4);
  expect(
    checkPaths(["proto/coppice/common/v1/failure.proto", "agent/src/host/run.ts", "cli/src/management.ts"]),
  ).toEqual([]);
});

test("a full folder is found, one with a case a file is not", () => {
  const sixteen = (folder: string) => Array.from({ length: 16 }, (_, index) => `${folder}/x${index}.ts`);
  expect(checkPaths(sixteen("agent/src/host"))).toEqual([expect.stringContaining("holds 16 source files")]);
  expect(checkPaths(sixteen("agent/src/commands"))).toEqual([]);
  expect(checkPaths(sixteen("agent/src/host").map((path) => path.replace(".ts", ".test.ts")))).toEqual([]);
});

test("a file of the kit that one program uses is found, use through the kit and not by tests counts", () => {
  const sources = [
    parseSource("proto/kit/reasons.ts", "export const reasons = {};"),
    parseSource("proto/kit/failure.ts", `import { reasons } from "./reasons.ts";`),
    parseSource("proto/kit/sleep.ts", "export {};"),
    parseSource("cli/src/main.ts", `import "@coppice/proto/kit/failure"; import "@coppice/proto/kit/sleep";`),
    parseSource("agent/src/main.ts", `import "@coppice/proto/kit/failure";`),
    parseSource("agent/src/main.test.ts", `import "@coppice/proto/kit/sleep";`),
  ];
  expect(checkKitUse(sources)).toEqual([expect.stringContaining("proto/kit/sleep.ts is used by cli")]);
});

test("a package that only another workspace declares is found", () => {
  const file = parseSource(
    "cli/src/main.ts",
    `import "pg"; import "@connectrpc/connect/x"; import "node:fs"; import "./x.ts";`,
  );
  expect(checkDeclared(file, new Set(["@connectrpc/connect"]))).toEqual([expect.stringContaining("imports pg")]);
});
