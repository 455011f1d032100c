import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { WalArchiveSchema } from "@coppice/proto/gen/coppice/agent/v1/wal_archive";
import { expect, onTestFinished, test } from "vitest";
import { openBudget } from "../../budget.ts";
import { openArchiveTarget } from "./open-target.ts";

const signal = new AbortController().signal;

async function openFolder() {
  const folder = await mkdtemp(join(tmpdir(), "coppice-target-"));
  onTestFinished(() => rm(folder, { recursive: true }));
  const location = { kind: { case: "filesystem" as const, value: { path: folder } } };
  const open = async (knownClusters: string[]) => {
    const archive = create(WalArchiveSchema, {
      clusterId: "cls_own",
      repository: { repositoryId: "rep_a", location },
      knownClusters,
    });
    await using storage = await openArchiveTarget(archive, {
      secret: () => undefined,
      budget: openBudget(1 << 20),
      signal,
    });
    return storage.name;
  };
  const hear = async (cluster: string) => {
    await mkdir(join(folder, cluster));
    await writeFile(join(folder, cluster, "cluster.json"), "{}");
  };
  return { folder, open, hear };
}

test("nothing is archived into a place that has heard of no cluster whose backups are known to be there", async () => {
  const { folder, open, hear } = await openFolder();
  await expect(open(["cls_a", "cls_b"])).rejects.toMatchObject({
    reason: "REPOSITORY_UNREACHABLE",
    message: expect.stringContaining("is there and is not the repository: cls_a/cluster.json is missing") as string,
  });
  expect(await readdir(folder)).toEqual([]);
  expect(await open([])).toContain(folder);
  await hear("cls_b");
  expect(await open(["cls_a", "cls_b"])).toContain(folder);
});

test("a place that has heard of the archive's own cluster is the repository when all that it began with are gone", async () => {
  const { folder, open, hear } = await openFolder();
  await hear("cls_own");
  expect(await open(["cls_a"])).toContain(folder);
});
