import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtemp, readdir, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { PhysicalContentSchema } from "@coppice/proto/gen/coppice/repository/v1/physical_content";
import { StoredStreamSchema } from "@coppice/proto/gen/coppice/repository/v1/stored_object";
import { afterEach, beforeEach, expect, test } from "vitest";
import { formatPhysicalRecipe } from "./recipe.ts";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "coppice-recipe-"));
});
afterEach(() => rm(folder, { recursive: true }));

/** Runs the recipe of such a backup, which lies in the folder, and gives the exit code and what it says. */
function run(
  physical: MessageInitShape<typeof PhysicalContentSchema>,
  { env, parentFolder }: { readonly env: NodeJS.ProcessEnv; readonly parentFolder?: string },
): Promise<string> {
  const recipe = formatPhysicalRecipe({
    clusterName: "shop",
    backupId: "bkp_2",
    startTime: new Date(0),
    major: 18,
    recipients: [],
    systemIdentifier: "7",
    parentFolder,
    physical: create(PhysicalContentSchema, physical),
  });
  return new Promise((resolve) =>
    execFile("/usr/bin/bash", ["--norc", "-c", recipe], { cwd: folder, env }, (error, _stdout, stderr) =>
      resolve(`${error?.code} ${stderr}`),
    ),
  );
}

/** Whatever server this machine has, that version comes first. */
async function pathWithServer(version: string): Promise<string> {
  await writeFile(join(folder, "postgres"), `echo 'postgres (PostgreSQL) ${version}'\n`, { mode: 0o755 });
  return `${folder}:${process.env["PATH"]}`;
}

test("a recipe that lacks a program of the chain ends before it makes anything", async () => {
  const stream = create(StoredStreamSchema);
  for (const name of ["bash", "tar", "sha256sum"]) await symlink(join("/usr/bin", name), join(folder, name));
  const env = { PATH: folder, PGDATA: join(folder, "data") };
  const parentFolder = "20261122T000000Z_full_bkp_1";
  const said = await run({ base: stream, wal: stream, backupManifest: stream }, { env, parentFolder });
  expect(said).toBe("1 pg_combinebackup is not in PATH\n");
});

test("a recipe with a server of another major in PATH ends before it makes anything", async () => {
  const stream = create(StoredStreamSchema);
  const env = { PATH: await pathWithServer("15.18 (Debian 15.18-1)"), PGDATA: join(folder, "data") };
  const said = await run({ base: stream, wal: stream, backupManifest: stream }, { env });
  expect(said).toContain(
    "1 in PATH is postgres (PostgreSQL) 15.18 (Debian 15.18-1), and the backup is of PostgreSQL 18:",
  );
  expect(await readdir(folder)).toEqual(["postgres"]);
});

test.each([
  ["data", "spaces", "spaces/inner", "spaces/inner lies in spaces"],
  ["data", "spaces/inner", "spaces/", "spaces/inner lies in spaces"],
  ["data", "same", "same", "same lies in same"],
  ["data", "spaces//", "spaces//inner/", "spaces/inner lies in spaces"],
  ["data", "data/space", "other", "data/space lies in data"],
  ["space/data", "space", "other", "space/data lies in space"],
])(
  "a recipe to %s with tablespaces in %s and %s ends before it unpacks anything: %s",
  async (data, first, second, what) => {
    const content = "never unpacked";
    await writeFile(join(folder, "base.0000"), content);
    const sha256 = createHash("sha256").update(content).digest("hex");
    const stream = create(StoredStreamSchema, { objects: [{ key: "base.0000", sha256 }] });
    const tablespaces = [first, second].map((name, index) => ({ oid: index + 1, location: `${folder}/${name}` }));
    const env = { PATH: await pathWithServer("18.1"), PGDATA: join(folder, data) };
    const said = await run({ base: stream, wal: stream, backupManifest: stream, tablespaces }, { env });
    const [one, other] = what.split(" lies in ");
    expect(said).toContain(`1 ${folder}/${one} lies in ${folder}/${other}: give each tablespace a folder of its own`);
    expect(await readdir(folder)).not.toContain("spaces");
  },
);
