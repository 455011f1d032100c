import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { ClusterFileSchema } from "@coppice/proto/gen/coppice/repository/v1/cluster_file";
import { fail } from "@coppice/proto/kit/failure";
import { afterEach, beforeEach, expect, test } from "vitest";
import { openFilesystem } from "../storage/filesystem.ts";
import { requireAnyClusterFile, writeClusterFile } from "./cluster-file.ts";

const signal = new AbortController().signal;
let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "coppice-cluster-file-"));
});
afterEach(async () => {
  await rm(folder, { recursive: true });
});

async function write(name: string, ...systemIdentifiers: string[]): Promise<void> {
  const incarnations = systemIdentifiers.map((systemIdentifier) => ({ systemIdentifier, major: 18 }));
  const storage = await openFilesystem(folder, "op_x");
  await writeClusterFile(storage, create(ClusterFileSchema, { clusterId: "cls_a", name, incarnations }), signal);
}

const path = () => join(folder, "cls_a", "cluster.json");
const read = async () => JSON.parse(await readFile(path(), "utf8")) as { name: string; incarnations: object[] };

test("incarnations add up, the name is the newest, and nothing is written when nothing changes", async () => {
  await write("shop", "1");
  await write("store", "2");
  expect(await read()).toMatchObject({
    formatVersion: 1,
    requiredFeatures: [],
    name: "store",
    incarnations: [{ systemIdentifier: "1" }, { systemIdentifier: "2" }],
  });
  const { ino } = await stat(path());
  await write("store", "1");
  expect((await stat(path())).ino).toBe(ino);
});

test("a file that cannot be read is not replaced", async () => {
  await write("shop", "1");
  for (const [text, reason] of [
    ["torn", "MANIFEST_UNREADABLE"],
    ['{"formatVersion": 2}', "FEATURE_UNKNOWN"],
    ['{"formatVersion": 1, "incarnations": 7}', "MANIFEST_UNREADABLE"],
  ] as const) {
    await writeFile(path(), text);
    await expect(write("shop", "1")).rejects.toMatchObject({ reason });
    expect(await readFile(path(), "utf8")).toBe(text);
  }
});

test("a cluster that may not be looked for hides no other one, and is told of only where none is seen", async () => {
  await write("shop", "1");
  const storage = await openFilesystem(folder, "op_x");
  // As another user's folder, which root may enter all the same.
  const closed = new Map([["cls_closed/cluster.json", () => fail("REPOSITORY_NOT_READABLE", "EACCES")]]);
  const stat = async (key: string) => closed.get(key)?.() ?? (await storage.stat(key, signal));
  const look = (...clusters: string[]) => requireAnyClusterFile({ name: storage.name, stat }, clusters, signal);
  await look("cls_closed", "cls_a");
  await expect(look("cls_closed", "cls_gone")).rejects.toMatchObject({ reason: "REPOSITORY_NOT_READABLE" });
  await expect(look("cls_gone")).rejects.toMatchObject({ reason: "REPOSITORY_UNREACHABLE" });
});
