import { create } from "@bufbuild/protobuf";
import { WalMode, WalSettingsSchema } from "@coppice/proto/gen/coppice/common/v1/wal_archive";
import { expect, test } from "vitest";
import { openLedger } from "./ledger.ts";

const at = (segment: bigint) => segment << 24n;
const run = (from: bigint, to: bigint) => ({ timeline: 1, startLsn: at(from), endLsn: at(to) });
const anchor = (second: bigint, segment: bigint) => ({ timeline: 1, timeUs: second * 1_000_000n, lsn: at(segment) });
const open = () => openLedger({ clusterId: "cls_1", repositoryId: "rep_1", systemIdentifier: "7" });
type Ledger = ReturnType<typeof open>;

const tell = (ledger: Ledger) => {
  const report = ledger.report();
  ledger.acknowledge(report?.number ?? 0n);
  return {
    runs: report?.stored.map(({ startLsn, endLsn }) => `${startLsn} ${endLsn}`),
    anchors: report?.anchors.map(({ time }) => Number(time?.seconds)),
    histories: report?.histories.map(({ timeline }) => timeline),
  };
};

test("what was acknowledged is told a new session again, since its catalog may be of before that", () => {
  const ledger = open();
  ledger.addRun(run(1n, 5n));
  for (const second of [0n, 10n, 20n, 60n]) ledger.addAnchor(anchor(second, second + 1n));
  ledger.addHistory(2, "1\t0/5000000\tnone");
  expect(tell(ledger)).toEqual({ runs: ["0/1000000 0/5000000"], anchors: [0, 10, 20, 60], histories: [2] });
  ledger.addRun(run(5n, 9n));
  ledger.addAnchor(anchor(70n, 90n));
  expect(tell(ledger)).toEqual({ runs: ["0/5000000 0/9000000"], anchors: [70], histories: [] });
  expect(ledger.report()).toBeUndefined();
  ledger.touch();
  expect(tell(ledger)).toEqual({ runs: [], anchors: [], histories: [] });
  for (let session = 0; session < 2; session++) {
    ledger.repeat();
    expect(tell(ledger)).toEqual({ runs: ["0/1000000 0/9000000"], anchors: [0, 60], histories: [2] });
  }
  ledger.addRun(run(9n, 10n));
  expect(tell(ledger).runs).toEqual(["0/9000000 0/A000000"]);
});

test("how it archives is told with each report, for a catalog that was made anew", () => {
  const settings = create(WalSettingsSchema, { mode: WalMode.PUSH, maxAge: { seconds: 5n } });
  const ledger = openLedger({ clusterId: "cls_1", repositoryId: "rep_1", systemIdentifier: "7", settings });
  expect(ledger.report()?.settings).toEqual(settings);
});

test("runs that overtake each other become one", () => {
  const ledger = open();
  for (const from of [2n, 1n, 4n, 3n, 6n]) ledger.addRun(run(from, from + 1n));
  expect(tell(ledger).runs).toEqual(["0/1000000 0/5000000", "0/6000000 0/7000000"]);
  // One that was told is not added to: that it is acknowledged says nothing of the rest.
  ledger.addRun(run(7n, 8n));
  expect(tell(ledger).runs).toEqual(["0/7000000 0/8000000"]);
});

test("how far one timeline is stored is not told of another, whose positions may be lower", () => {
  const ledger = open();
  ledger.stand({ timeline: 1, storedLsn: at(11n), receivedLsn: at(11n), serverLsn: at(11n) });
  ledger.stand({ timeline: 1 });
  expect(ledger.report()).toMatchObject({ timeline: 1, storedLsn: "0/B000000", receivedLsn: "0/B000000" });
  ledger.stand({ timeline: 2, serverLsn: at(5n) });
  expect(ledger.report()).toMatchObject({ timeline: 2, storedLsn: "", receivedLsn: "", serverLsn: "0/5000000" });
  ledger.stand({ storedLsn: at(5n) });
  expect(ledger.report()).toMatchObject({ timeline: 2, storedLsn: "0/5000000" });
});
