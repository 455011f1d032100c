import { expect, test } from "vitest";
import { formatJson, formatTable, makeRow } from "./row.ts";

const dump = { runs: 3, unit: "s", peerName: "zstd", peer: 2.00049, ours: 3.1004, name: "dump" } as const;

test("a row is one line of JSON with its keys in a fixed order", () => {
  expect(formatJson(makeRow(dump))).toBe(
    '{"name":"dump","ours":3.1,"peer":2,"peerName":"zstd","unit":"s","ratio":1.55,"runs":3}',
  );
});

test("the ratio is that of the figures that are shown", () => {
  const row = makeRow({ name: "version", ours: 60.04, peer: 39.96, peerName: "node -e 0", unit: "ms", runs: 21 });
  expect(row).toMatchObject({ ours: 60, peer: 40, ratio: 1.5 });
});

test("rows are a table for people", () => {
  const memory = makeRow({
    name: "dump-rss",
    ours: 150_000_000,
    peer: 200e6,
    peerName: "goal",
    unit: "bytes",
    runs: 3,
  });
  expect(formatTable([makeRow(dump), memory])).toBe(
    [
      "NAME      PEER      OURS    PEER'S  RATIO  RUNS\n",
      "dump      zstd   3.100 s   2.000 s   1.55     3\n",
      "dump-rss  goal  150.0 MB  200.0 MB   0.75     3\n",
    ].join(""),
  );
});
