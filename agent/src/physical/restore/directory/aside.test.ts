import { mkdir, mkdtemp, readdir, readlink, rename, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { Marker } from "../staging.ts";
import { isFormerTablespace, moveTablespacesAside, putTablespacesBack } from "./aside.ts";

let folder: string;
let marker: Marker;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "coppice-aside-"));
  const location = join(folder, "space");
  await mkdir(join(folder, "data.before", "pg_tblspc"), { recursive: true });
  await symlink(location, join(folder, "data.before", "pg_tblspc", "16384"));
  await writeFile(join(folder, "data.before", "PG_VERSION"), "18\n");
  await mkdir(join(location, "PG_18_2"), { recursive: true });
  await writeFile(join(location, "PG_18_2", "table"), "");
  marker = {
    operationId: "op_1",
    dataDirectory: join(folder, "data"),
    tablespaces: [location],
    madeFolder: false,
    keptAs: join(folder, "data.before"),
    state: "placing",
    token: "t",
    placement: "whole",
    entries: [],
    former: [{ location, keptAs: join(folder, "space.before") }],
  };
});
afterEach(() => rm(folder, { recursive: true }));

const link = () => readlink(join(folder, "data.before", "pg_tblspc", "16384"));
const list = (name: string) => readdir(join(folder, name)).catch(() => "none");

test("the former cluster finds its tablespace where it was moved, and again in its place once it is back", async () => {
  expect(await isFormerTablespace(join(folder, "space"), join(folder, "data.before"))).toBe(true);
  expect(await isFormerTablespace(join(folder, "space"), join(folder, "nowhere"))).toBe(false);
  await moveTablespacesAside(marker);
  expect([await list("space"), await list("space.before")]).toEqual([[], ["PG_18_2"]]);
  expect(await link()).toBe(join(folder, "space.before"));
  expect(await putTablespacesBack(marker)).toEqual([]);
  expect([await list("space"), await list("space.before")]).toEqual([["PG_18_2"], "none"]);
  expect(await link()).toBe(join(folder, "space"));
  // Once more there is nothing to do.
  expect(await putTablespacesBack(marker)).toEqual([]);
});

test("half of it that was moved, and a link that was half made, come back, too", async () => {
  await moveTablespacesAside(marker);
  await rename(join(folder, "space.before", "PG_18_2"), join(folder, "space", "PG_18_2"));
  await symlink("/nowhere", join(folder, "data.before", "pg_tblspc", "16384.coppice-new"));
  expect(await putTablespacesBack(marker)).toEqual([]);
  expect([await list("space"), await list("space.before")]).toEqual([["PG_18_2"], "none"]);
  expect([await link(), await list("data.before/pg_tblspc")]).toEqual([join(folder, "space"), ["16384"]]);
});

test("what others have put into the place meanwhile stays, and is named", async () => {
  await moveTablespacesAside(marker);
  await mkdir(join(folder, "space", "PG_18_2"));
  expect(await putTablespacesBack(marker)).toEqual([expect.stringContaining("somebody has put something else")]);
  expect(await list("space.before")).toEqual(["PG_18_2"]);
});

test.each(["notes", "PG_17_1"])("a folder with %s beside the cluster's tablespace is not moved", async (name) => {
  await mkdir(join(folder, "space", name));
  expect(await isFormerTablespace(join(folder, "space"), join(folder, "data.before"))).toBe(false);
});

test("what a server of another version has made there meanwhile stays with it", async () => {
  await mkdir(join(folder, "space", "PG_17_1"));
  await moveTablespacesAside(marker);
  expect([await list("space"), await list("space.before")]).toEqual([["PG_17_1"], ["PG_18_2"]]);
  expect(await putTablespacesBack(marker)).toEqual([]);
  expect((await readdir(join(folder, "space"))).toSorted()).toEqual(["PG_17_1", "PG_18_2"]);
});
