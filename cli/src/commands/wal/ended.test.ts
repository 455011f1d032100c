import { create } from "@bufbuild/protobuf";
import { WalMode } from "@coppice/proto/gen/coppice/common/v1/wal_archive";
import { WalArchiveSchema } from "@coppice/proto/gen/coppice/control/v1/cluster";
import { expect, test } from "vitest";
import { describeLeft } from "./ended.ts";

const say = (mode: WalMode, over: object = {}) =>
  describeLeft(create(WalArchiveSchema, { cluster: "cls_1", hostName: "db7", settings: { mode }, ...over }), {
    paint: (_style: string, text: string) => text,
  });

test("what is to be done by hand takes back only a command of Coppice's, and says nothing of one that is known to be another's", () => {
  const pushed = say(WalMode.PUSH);
  const guard = pushed.indexOf("only where that names coppice-wal");
  expect(guard).toBeGreaterThan(0);
  expect(pushed.indexOf("RESET archive_command")).toBeGreaterThan(guard);
  const refused = say(WalMode.PUSH, { trouble: { reason: "ARCHIVE_COMMAND_TAKEN" } });
  expect(refused).toContain("leaves archive_command as it is");
  for (const said of [refused, say(WalMode.STREAM)]) {
    expect(said).toContain("pg_drop_replication_slot");
    expect(said).not.toMatch(/ALTER SYSTEM|SHOW/);
  }
});
