import { mkdtemp, open, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { appendSettings, writeOwned } from "./configuration.ts";

const self = { ...userInfo(), name: userInfo().username, home: "/", groups: [] };
let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "coppice-configuration-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

test("a file of the configuration is replaced whole: who reads the former one never sees a part of the new one", async () => {
  const file = join(folder, "pg_hba.conf");
  await writeFile(file, "former\n", { mode: 0o644 });
  await using before = await open(file, "r");
  await writeOwned(file, "new\n", self);
  expect(await before.readFile("utf8")).toBe("former\n");
  expect(await readFile(file, "utf8")).toBe("new\n");
  expect((await stat(file)).mode & 0o777).toBe(0o600);
  expect(await readdir(folder)).toEqual(["pg_hba.conf"]);
});

test("settings that are added come last, where they win", async () => {
  await appendSettings(folder, [["max_connections", "60"]], self);
  await appendSettings(folder, [["max_connections", "90"]], self);
  expect(await readFile(join(folder, "postgresql.auto.conf"), "utf8")).toBe(
    "max_connections = '60'\nmax_connections = '90'\n",
  );
});
