import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { endRefusal, noteRefusal, readRefusal } from "./refusal.ts";
import { noteSetBack, readSetBack } from "./set-back-mark.ts";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "coppice-refusal-"));
});
afterEach(() => rm(folder, { recursive: true }));

test("refusals of the same moment are all noted, the first one of each timeline", async () => {
  const note = (timeline: number, lsn: bigint) => noteRefusal(folder, { timeline, lsn, reason: "WAL_CONFLICT" });
  await Promise.all([note(1, 5n), note(2, 7n), note(1, 6n), note(2, 8n)]);
  expect(await readRefusal(folder, 1)).toEqual({ timeline: 1, lsn: 5n, reason: "WAL_CONFLICT" });
  expect(await readRefusal(folder, 2)).toEqual({ timeline: 2, lsn: 7n, reason: "WAL_CONFLICT" });
  await Promise.all([endRefusal(folder, { timeline: 2, lsn: 6n }), endRefusal(folder, { timeline: 1, lsn: 5n })]);
  expect(await readRefusal(folder, 1)).toBeUndefined();
  expect(await readRefusal(folder, 2)).toMatchObject({ lsn: 7n });
  await endRefusal(folder, { timeline: 2, lsn: 7n });
  expect(await readRefusal(folder, 2)).toBeUndefined();
});

test("a set-back that several see at once is noted", async () => {
  const archive = join(folder, "cls_1_7_rep_1");
  await noteRefusal(folder, { timeline: 1, lsn: 5n, reason: "WAL_FOREIGN" });
  await rm(archive, { recursive: true, force: true });
  await expect(noteSetBack(archive)).rejects.toThrow("ENOENT");
  await Promise.all(Array.from({ length: 20 }, () => noteSetBack(folder)));
  expect(await readSetBack(join(folder, ".."), { clusterId: "cls_1", systemIdentifier: "7" })).toBeUndefined();
});
