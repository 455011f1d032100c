import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { requireMovable } from "./movable.ts";

let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "coppice-movable-"));
  await makeCluster(".");
});
afterEach(() => rm(folder, { recursive: true }));

async function makeCluster(name: string): Promise<void> {
  for (const inside of ["global", "base/5"]) await mkdir(join(folder, name, inside), { recursive: true });
  for (const inside of [".", "base/5"]) await writeFile(join(folder, name, inside, "PG_VERSION"), "18\n");
}

test("a cluster moves with all that is its own", async () => {
  await expect(requireMovable(folder, ["/nowhere", tmpdir()])).resolves.toBeUndefined();
});

test("no other cluster moves with it, whether it runs or not", async () => {
  await makeCluster("old/18/main");
  await expect(requireMovable(folder, [])).rejects.toMatchObject({
    reason: "INVALID_FIELD",
    message: `${folder} holds ${folder}/old/18/main, the data directory of another cluster`,
  });
});

test.each([".", "backups/main"])("no repository moves, which is %s", async (name) => {
  await mkdir(join(folder, name, "cls_1"), { recursive: true });
  await writeFile(join(folder, name, "cls_1/cluster.json"), "{}");
  await expect(requireMovable(folder, [])).rejects.toMatchObject({ reason: "INVALID_FIELD" });
});

test("nothing moves that the restore reads, by whatever name", async () => {
  const link = `${folder}-link`;
  await symlink(folder, link);
  await writeFile(join(folder, "kit.txt"), "");
  await expect(requireMovable(folder, [join(link, "kit.txt")])).rejects.toMatchObject({ reason: "INVALID_FIELD" });
  await expect(requireMovable(link, [folder])).rejects.toMatchObject({ reason: "INVALID_FIELD" });
  await rm(link);
});
