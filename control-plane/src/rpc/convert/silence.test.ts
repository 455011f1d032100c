import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { WalArchiveSchema } from "@coppice/proto/gen/coppice/control/v1/cluster";
import { expect, test } from "vitest";
import { silentMs, withSilence } from "./silence.ts";

const toldMs = Date.UTC(2026, 10, 22);
const told = create(WalArchiveSchema, {
  repository: "rep_1",
  hostName: "db7",
  storedLsn: "0/3000000",
  lagBytes: 0n,
  lagSeconds: 0,
  writtenBytesPerSecond: 7n,
  storedBytesPerSecond: 7n,
  reportTime: timestampFromMs(toldMs),
});

test("what an archive told last counts while it tells something now and then", () => {
  expect(withSilence(told, new Date(toldMs + silentMs - 1))).toBe(told);
  const none = create(WalArchiveSchema, { reportTime: timestampFromMs(toldMs) });
  expect(withSilence(none, new Date(toldMs + 10 * silentMs))).toBe(none);
});

test("of one that is silent no lag is known, and that is its trouble", () => {
  const silent = withSilence(told, new Date(toldMs + 750_400));
  expect(silent.trouble).toMatchObject({
    reason: "AGENT_LOST",
    message:
      "the agent of db7 has told nothing of it for 12m30s: WAL may not be archived, and what is shown is of then",
  });
  expect([silent.lagBytes, silent.lagSeconds, silent.writtenBytesPerSecond]).toEqual([undefined, undefined, undefined]);
  expect(silent.storedLsn).toBe("0/3000000");
  const never = create(WalArchiveSchema, { repository: "rep_1", ownership: { sinceTime: timestampFromMs(toldMs) } });
  expect(withSilence(never, new Date(toldMs + silentMs)).trouble?.reason).toBe("AGENT_LOST");
});
