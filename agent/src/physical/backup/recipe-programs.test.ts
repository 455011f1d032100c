import { execFile } from "node:child_process";
import { mkdtemp, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { PhysicalContentSchema } from "@coppice/proto/gen/coppice/repository/v1/physical_content";
import { StoredStreamSchema } from "@coppice/proto/gen/coppice/repository/v1/stored_object";
import { expect, test } from "vitest";
import { formatPhysicalRecipe } from "./recipe.ts";

test("a recipe that lacks a program of the chain ends before it makes anything", async () => {
  const folder = await mkdtemp(join(tmpdir(), "coppice-recipe-"));
  const stream = create(StoredStreamSchema);
  const recipe = formatPhysicalRecipe({
    clusterName: "shop",
    backupId: "bkp_2",
    startTime: new Date(0),
    major: 18,
    recipients: [],
    systemIdentifier: "7",
    parentFolder: "20261122T000000Z_full_bkp_1",
    physical: create(PhysicalContentSchema, { base: stream, wal: stream, backupManifest: stream }),
  });
  for (const name of ["bash", "tar", "sha256sum"]) await symlink(join("/usr/bin", name), join(folder, name));
  const env = { PATH: folder, PGDATA: join(folder, "data") };
  const ran = new Promise<string>((resolve) =>
    execFile("/usr/bin/bash", ["--norc", "-c", recipe], { cwd: folder, env }, (error, _stdout, stderr) =>
      resolve(`${error?.code} ${stderr}`),
    ),
  );
  expect(await ran).toBe("1 pg_combinebackup is not in PATH\n");
  await rm(folder, { recursive: true });
});
