import { create } from "@bufbuild/protobuf";
import { BackupSchema } from "@coppice/proto/gen/coppice/control/v1/backup";
import { expect, test } from "vitest";
import { backupTree } from "./tree.ts";

const backups = (...pairs: [id: string, parent: string][]) =>
  pairs.map(([id, parent]) => create(BackupSchema, { id, parent }));

test("backups stand newest first, and below each, downwards in time, those that need it", () => {
  const rows = backupTree(
    backups(["dump", ""], ["c", "b"], ["b2", "full"], ["b", "full"], ["full", ""], ["orphan", "gone"]),
  );
  expect(rows.map(({ backup, depth }) => `${"-".repeat(depth)}${backup.id}`)).toEqual([
    "dump",
    "full",
    "-b",
    "--c",
    "-b2",
    "orphan",
  ]);
});

test("a chain of any length is shown", () => {
  const length = 20_000;
  const chain = Array.from({ length }, (_, at): [string, string] => [`b${at}`, at === 0 ? "" : `b${at - 1}`]);
  expect(backupTree(backups(...chain)).at(-1)).toMatchObject({ depth: length - 1 });
});
