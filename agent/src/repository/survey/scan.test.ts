import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type StoredBackup, storeBackup } from "../../../../tests/support/stored-backup.ts";
import { cleanRepository } from "./clean.ts";
import { parseManifest } from "../manifest-text.ts";
import { scanRepository } from "./scan.ts";
import { verifyBackup } from "../verify.ts";

const signal = new AbortController().signal;
const onProgress = () => {};
let backup: StoredBackup;
beforeEach(async () => {
  backup = await storeBackup(signal);
});
afterEach(async () => {
  await backup[Symbol.asyncDispose]();
});

const committed = "20261121T013000Z_dump_bkp_a";
const scan = (knownFolders: string[] = [], activeFolders: string[] = []) =>
  scanRepository(backup.storage, { knownFolders, activeFolders, signal, onProgress });

async function put(path: string, text: string): Promise<void> {
  await mkdir(join(backup.folder, path, ".."), { recursive: true });
  await writeFile(join(backup.folder, path), text);
}

test("a scan gives clusters and committed backups as they are stored, and names what is foreign", async () => {
  await put("cls_a/backups/20261121T020000Z_dump_bkp_b/globals.sql.zst.0000", "never committed");
  await put(`cls_a/backups/${committed}/marks/20261121T020000Z_pin.json`, "{}");
  await put("holiday.jpg", "not ours");
  const found = await scan();
  expect(found.clusterFiles.map((bytes) => JSON.parse(Buffer.from(bytes).toString()) as unknown)).toMatchObject([
    { clusterId: "cls_a", name: "shop" },
  ]);
  expect(found.backups.map(({ folder }) => folder)).toEqual([committed]);
  const [first] = found.backups;
  expect(parseManifest(first?.manifest ?? Buffer.alloc(0), "manifest.json")).toEqual(backup.manifest);
  expect(first).toMatchObject({
    manifestSha256: backup.address.manifestSha256,
    recipe: "zstd -d …\n",
    marks: ["20261121T020000Z_pin.json"],
  });
  expect(found).toMatchObject({ foreignKeys: ["holiday.jpg"], foreignObjects: 1n, more: false, unreadable: [] });
});

test("what is known and gone is named, and a place that knows nothing of it is not the repository", async () => {
  const [here, gone, active] = [
    `cls_a/${committed}`,
    "cls_a/20261121T020000Z_full_bkp_b",
    "cls_a/20261121T020000Z_dump_bkp_w",
  ];
  const found = await scan([here, gone, active], [active]);
  expect(found).toMatchObject({ knownBackups: 1, missingFolders: [gone] });
  await rm(join(backup.folder, "cls_a"), { recursive: true });
  await expect(scan([here, gone])).rejects.toMatchObject({
    reason: "REPOSITORY_UNREACHABLE",
    message: expect.stringContaining("is there and is not the repository: cls_a/cluster.json is missing") as string,
  });
  expect((await scan([active], [active])).missingFolders).toEqual([]);
});

test("what is known is counted and not read, and what cannot be read is named", async () => {
  expect(await scan([`cls_a/${committed}`])).toMatchObject({ knownBackups: 1, backups: [] });
  await writeFile(backup.path("manifest.json"), "torn");
  const { backups, unreadable } = await scan();
  expect(backups).toEqual([]);
  expect(unreadable).toEqual([expect.stringContaining(`cls_a/${committed}`)]);
  for (const [text, why] of [
    ['{"formatVersion": 1}', "does not say which cluster it is of"],
    ['{"formatVersion": 1, "clusterId": "cls_b", "name": "shop"}', 'is of "cls_b"'],
    ['{"formatVersion": 2, "clusterId": "cls_a", "name": "shop"}', "needs format version 2"],
  ] as const) {
    await put("cls_a/cluster.json", text);
    const found = await scan();
    expect(found.clusterFiles).toEqual([]);
    expect(found.unreadable[0]).toMatch(new RegExp(`^cls_a/cluster.json: .*${why}`));
  }
});

test("cleaning takes what was never finished and is old, and nothing else", async () => {
  const [old, young, active] = [
    "20261121T010000Z_dump_bkp_o",
    "20261121T120000Z_dump_bkp_y",
    "20261121T010000Z_dump_bkp_w",
  ];
  for (const folder of [old, young, active]) await put(`cls_a/backups/${folder}/db/1.dump.zst.0000`, "half");
  await put("cls_a/notes.txt", "mine");
  await put(`cls_a/backups/${old}/db/.coppice-unfinished.op_x.0123456789abcdef`, "half");
  const within = `eu/cls_a/backups/${old}/db/.coppice-unfinished.op_x.0123456789abcdef`;
  await put(within, "of a repository within this one");
  await put("cls_a/.coppice-unfinished.op_x.0123456789abcdef", "half of a cluster.json");
  const before = new Date("2026-11-21T02:00:00Z");
  const cleaning = { keptFolders: [active], before, signal };
  const seen = await cleanRepository(backup.storage, { ...cleaning, isDryRun: true });
  expect(seen).toMatchObject({ objects: 1n, removed: 0n, leavings: [expect.stringContaining(old)] });
  expect(await cleanRepository(backup.storage, { ...cleaning, isDryRun: false })).toMatchObject({ removed: 1n });
  const later = { ...cleaning, before: new Date(Date.now() + 1000), isDryRun: false, keptFolders: [active, young] };
  expect(await cleanRepository(backup.storage, later)).toMatchObject({ objects: 2n, removed: 2n });
  expect(await readFile(join(backup.folder, within), "utf8")).toBe("of a repository within this one");
  const left = (await Array.fromAsync(backup.storage.list("", signal))).map(({ key }) => key);
  for (const folder of [young, active]) expect(left).toContain(`cls_a/backups/${folder}/db/1.dump.zst.0000`);
  expect(left.filter((key) => key.includes(old))).toEqual([]);
  expect(left).toContain("cls_a/notes.txt");
  const { failure } = await verifyBackup(backup.storage, backup.address, { signal, onProgress });
  expect(failure).toBeUndefined();
});
