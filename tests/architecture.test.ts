import { glob, readdir, readFile } from "node:fs/promises";
import { hostname } from "node:os";
import { join, relative } from "node:path";
import { beforeAll, expect, test } from "vitest";
import { reasons } from "@coppice/proto/kit/reasons";
import { checkDeclared, checkImports, checkKitUse, checkPaths, checkSource } from "./architecture.checks.ts";
import { parseSource, type Source } from "./architecture.source.ts";

const root = join(import.meta.dirname, "..");
const workspaces = ["proto", "control-plane", "agent", "cli"];
const folders = [...workspaces, "tests", "deploy", "docs"];
const left = new Set(["node_modules", "gen", "vendor", "build", "migrations"]);

let paths: string[];
let rootFiles: string[];
let sources: Source[];

beforeAll(async () => {
  paths = [];
  for await (const entry of glob(`{${folders.join(",")}}/**/*`, {
    cwd: root,
    withFileTypes: true,
    exclude: ({ name }) => left.has(name),
  })) {
    if (entry.isFile()) paths.push(relative(root, join(entry.parentPath, entry.name)));
  }
  const beside = await readdir(root, { withFileTypes: true });
  rootFiles = beside.filter((entry) => entry.isFile() && !entry.name.endsWith(".tsbuildinfo")).map(({ name }) => name);
  const code = paths.filter((path) => path.endsWith(".ts"));
  sources = await Promise.all(code.map(async (path) => parseSource(path, await readFile(join(root, path), "utf8"))));
});

test("the tree has sources to check", () => {
  expect(sources.length).toBeGreaterThan(20);
  expect(paths).toContain("tests/architecture.test.ts");
});

test("every import is one that the table allows", () => {
  expect(sources.flatMap(checkImports)).toEqual([]);
});

test("every source is short or explained, and uses nothing that is forbidden where it lies", () => {
  expect(sources.flatMap(checkSource)).toEqual([]);
});

test("files and folders are named for things, and folders are small", () => {
  expect(checkPaths(paths)).toEqual([]);
});

test("every file of the kit is used by two programs", () => {
  expect(checkKitUse(sources)).toEqual([]);
});

test("every reason is used somewhere", () => {
  const users = sources.filter(({ path }) => path !== "proto/kit/reasons.ts" && !path.endsWith(".test.ts"));
  const used = new Set(users.flatMap(({ strings }) => [...strings]));
  expect(Object.keys(reasons).filter((reason) => !used.has(reason))).toEqual([]);
});

test("every imported package is declared by the workspace that imports it", async () => {
  for (const workspace of workspaces) {
    const text = await readFile(join(root, workspace, "package.json"), "utf8");
    const { dependencies } = JSON.parse(text) as { dependencies: Record<string, string> };
    // vitest runs the tests that lie beside the sources.
    const declared = new Set([...Object.keys(dependencies), "vitest"]);
    const own = sources.filter(
      ({ path }) => path.startsWith(`${workspace}/src/`) || path.startsWith(`${workspace}/kit/`),
    );
    expect(own.flatMap((source) => checkDeclared(source, declared))).toEqual([]);
  }
});

test("nothing in the tree is named for the machine that it lies on", async () => {
  const registry = URL.parse(process.env["npm_config_registry"] ?? "")?.hostname;
  // A short host name is a word like another (debian, db7), and so is the path that a clone has by itself.
  const names = [root, hostname()].filter((name) => name.length >= 10 && !name.endsWith("/coppice"));
  if (registry !== undefined) names.push(registry);
  const all = [...paths, ...rootFiles];
  const texts = await Promise.all(all.map(async (path) => ({ path, text: await readFile(join(root, path), "utf8") })));
  const named = texts.filter(({ text }) => names.some((name) => text.includes(name)));
  expect(named.map(({ path }) => path)).toEqual([]);
});
