import { create } from "@bufbuild/protobuf";
import { BackupSchema, CopyState } from "@coppice/proto/gen/coppice/control/v1/backup";
import { expect, test } from "vitest";
import { formatBackup, formatBackups } from "./describe.ts";

test("a backup that builds on a damaged one is not good, and says why", () => {
  const copy = { repositoryName: "main", state: CopyState.STORED, folder: "f" };
  const chainProblem = "bkp_1, which it builds on, is damaged";
  const told = (problem: string) =>
    create(BackupSchema, { id: "bkp_2", complete: true, copies: [{ ...copy, chainProblem: problem }] });
  const now = new Date();
  expect(formatBackups([told("")], now)).toContain("good");
  expect(formatBackups([told(chainProblem)], now)).toContain("broken chain");
  expect(formatBackup(told(chainProblem), now)).toContain(`nothing can be restored from it: ${chainProblem}, folder f`);
});
