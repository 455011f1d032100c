import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { RepositoryTargetSchema } from "@coppice/proto/gen/coppice/agent/v1/repository_target";
import { CheckStatus } from "@coppice/proto/gen/coppice/common/v1/check";
import { afterEach, beforeEach, expect, test } from "vitest";
import { checkRepository } from "./check.ts";

const signal = new AbortController().signal;
let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "coppice-check-"));
});
afterEach(async () => {
  await rm(folder, { recursive: true });
});

const check = (path: string, by = signal, { shared = false, isHome = true, knownClusters = [] as string[] } = {}) => {
  const location = { kind: { case: "filesystem" as const, value: { path, shared } } };
  const target = create(RepositoryTargetSchema, { repositoryId: "rep_a", name: "main", location });
  return checkRepository({ target, isHome, knownClusters }, { operationId: "op_check", signal: by });
};

test("a good folder passes every item and is left empty", async () => {
  const { items, freeBytes } = await check(folder);
  expect(items.map(({ name }) => name)).toEqual(["reachable", "write", "read", "list", "delete", "space"]);
  expect(items.slice(0, 5).every(({ status, fix }) => status === CheckStatus.OK && fix === "")).toBe(true);
  expect(freeBytes).toBeGreaterThan(0n);
  expect(await readdir(folder)).toEqual([]);
});

test("a folder that is not there fails with the command that makes it", async () => {
  const { items, freeBytes } = await check(join(folder, "it's not"));
  expect(items).toHaveLength(1);
  expect(items[0]).toMatchObject({ name: "reachable", status: CheckStatus.FAILED });
  expect(items[0]?.message).toContain("does not exist on this host");
  expect(items[0]?.fix).toMatch(/^install -d -m 0700 -o [a-z0-9_-]+ '.*\/it'\\''s not'$/);
  expect(freeBytes).toBeUndefined();
});

test("a folder that takes no files fails at the write, and what depends on it is left out", async () => {
  await writeFile(join(folder, "probe"), "in the way");
  const { items } = await check(folder);
  expect(items.map(({ name, status }) => `${name} ${CheckStatus[status]}`)).toEqual([
    "reachable OK",
    "write FAILED",
    "space OK",
  ]);
  expect(items[1]?.fix).not.toBe("");
});

test("a place that knows nothing of clusters whose backups are in it is to be mounted, and nothing is written there", async () => {
  const known = { knownClusters: ["cls_a", "cls_b"] };
  const failing = async (path: string) => (await check(path, signal, known)).items.at(-1);
  expect(await failing(join(folder, "gone"))).toMatchObject({
    name: "reachable",
    status: CheckStatus.FAILED,
    fix: expect.stringMatching(/^mount what belongs at '.*\/gone': backups are known/) as unknown,
  });
  for (const cluster of known.knownClusters) {
    expect(await failing(folder)).toMatchObject({
      name: "content",
      status: CheckStatus.FAILED,
      message: expect.stringContaining(`${cluster}/cluster.json is missing`) as unknown,
      fix: expect.stringMatching(/^mount what belongs there/) as unknown,
    });
    await mkdir(join(folder, cluster));
    await writeFile(join(folder, cluster, "cluster.json"), "{}");
  }
  const { items } = await check(folder, signal, known);
  expect(items.every(({ status }) => status === CheckStatus.OK)).toBe(true);
  expect(items.map(({ name }) => name)).toContain("content");
});

test("a shared folder counts on another host only where it holds the mark of the home host", async () => {
  const other = await mkdtemp(join(tmpdir(), "coppice-check-"));
  const shared = async (path: string, isHome: boolean) =>
    (await check(path, signal, { shared: true, isHome })).items.find(({ name }) => name === "shared");
  expect(await shared(folder, false)).toMatchObject({
    status: CheckStatus.FAILED,
    fix: expect.stringMatching(/^mount the shared folder/) as unknown,
  });
  expect(await shared(folder, true)).toMatchObject({ status: CheckStatus.OK });
  expect(await shared(folder, false)).toMatchObject({ status: CheckStatus.OK });
  expect(await shared(other, false)).toMatchObject({ status: CheckStatus.FAILED });
  expect(await readdir(other)).toEqual([]);
  await rm(other, { recursive: true });
});

test("an aborted check rejects with the reason", async () => {
  const reason = new Error("enough");
  await expect(check(folder, AbortSignal.abort(reason))).rejects.toBe(reason);
});
