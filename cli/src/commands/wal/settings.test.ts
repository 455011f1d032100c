import { create } from "@bufbuild/protobuf";
import { WalMode } from "@coppice/proto/gen/coppice/common/v1/wal_archive";
import { WalArchiveSchema } from "@coppice/proto/gen/coppice/control/v1/cluster";
import { expect, test } from "vitest";
import { describeKept } from "./settings.ts";

test("what only the agent knew of how it archives is said, and nothing of what the catalog knew", () => {
  const paint = { paint: (_color: string, text: string) => text };
  const settings = { mode: WalMode.PUSH, maxAge: { seconds: 5n } };
  const after = create(WalArchiveSchema, { repository: "rep_a", settings });
  expect(describeKept(create(WalArchiveSchema, { settings }), after, paint)).toBe(
    "! what was not said stays as its agent does it already: push, max age 5s\n",
  );
  expect(describeKept(after, after, paint)).toBe("");
  expect(describeKept(create(WalArchiveSchema), after, paint)).toBe("");
  expect(describeKept(create(WalArchiveSchema, { extents: [{}] }), after, paint)).toMatch(
    /is not known here, and it begins anew: push, max age 5s; say --mode/,
  );
});
