import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { DumpContents } from "@coppice/proto/gen/coppice/common/v1/dump_options";
import { BackupSchema, CopyState } from "@coppice/proto/gen/coppice/control/v1/backup";
import { expect, test } from "vitest";
import { dumpChoices } from "./dump-choices.ts";

const now = new Date("2026-11-21T12:00:00Z");
const dump = (id: string, init: MessageInitShape<typeof BackupSchema>, state = CopyState.STORED) =>
  create(BackupSchema, { id, complete: true, startTime: timestampFromDate(now), copies: [{ state }], ...init });

test("the newest good dump of everything comes first, and a selection is called one", () => {
  const choices = dumpChoices(
    [
      dump("bkp_6", { dump: { contents: DumpContents.SCHEMA_ONLY } }),
      dump("bkp_5", { complete: false }),
      dump("bkp_4", {}, CopyState.DAMAGED),
      dump("bkp_3", { dump: {} }),
      dump("bkp_2", {}),
      dump("bkp_1", { dump: { excludeTableData: ["log*"] } }),
    ],
    now,
  );
  expect(choices.map(({ name, value }) => [value.id, name.split("  ").at(-1)])).toEqual([
    ["bkp_3", "complete"],
    ["bkp_2", "complete"],
    ["bkp_6", "selection"],
    ["bkp_1", "selection"],
    ["bkp_5", "incomplete"],
    ["bkp_4", "complete, damaged"],
  ]);
});
