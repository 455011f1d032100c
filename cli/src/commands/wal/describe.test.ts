import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { WalMode } from "@coppice/proto/gen/coppice/common/v1/wal_archive";
import {
  RecoveryWindowSchema,
  WalArchiveSchema,
  WalOwnershipSchema,
} from "@coppice/proto/gen/coppice/control/v1/cluster";
import { expect, test } from "vitest";
import { formatArchive } from "./describe.ts";

const now = new Date("2026-11-21T12:00:00Z");
const session = { terminal: { paint: (_style: string, text: string) => text }, now: () => now };
const before = (ms: number) => timestampFromDate(new Date(now.getTime() - ms));

test("a cluster whose WAL is not archived says how to begin", () => {
  const archive = create(WalArchiveSchema, { clusterName: "shop" });
  expect(formatArchive({ archive, windows: [] }, session)).toBe(
    "cluster:  shop\narchived: no\n  next: coppice wal setup shop\n",
  );
});

test("an archive says how far it is, what is missing, and what can be reached", () => {
  const run = { repository: "rep_1", systemIdentifier: "75", timeline: 1 };
  const archive = create(WalArchiveSchema, {
    clusterName: "shop",
    repository: "rep_1",
    repositoryName: "main",
    hostName: "db7",
    settings: { mode: WalMode.STREAM, slot: "coppice_x", maxAge: { seconds: 60n } },
    systemIdentifier: "75",
    timeline: 1,
    serverLsn: "0/6000000",
    receivedLsn: "0/5800000",
    storedLsn: "0/5000000",
    lagBytes: 16_777_216n,
    storedTime: before(9000),
    reportTime: before(3000),
    slotStatus: "reserved",
    slot: {
      name: "coppice_x",
      exists: true,
      active: true,
      restartLsn: "0/5000000",
      walStatus: "reserved",
      safeWalBytes: 1_000_000_000n,
      keptBytes: 16_777_216n,
    },
    writtenBytesPerSecond: 1_200_000n,
    storedBytesPerSecond: 900_000n,
    trouble: { message: "the repository is away", hint: "coppice repo check main" },
    extents: [
      { ...run, startLsn: "0/1000000", endLsn: "0/2000000" },
      { ...run, startLsn: "0/3000000", endLsn: "0/4000000" },
      { ...run, timeline: 2, startLsn: "0/4800000", endLsn: "0/5000000" },
    ],
    gaps: [
      { ...run, startLsn: "0/2000000", endLsn: "0/3000000" },
      { ...run, startLsn: "0/4000000", endLsn: "0/4800000" },
    ],
  });
  const windows = [
    create(RecoveryWindowSchema, {
      timeline: 1,
      startTime: before(3_600_000),
      endTime: before(9000),
      endLsn: "0/5000000",
    }),
  ];
  expect(formatArchive({ archive, windows }, session)).toBe(
    "cluster:  shop\n" +
      "archived: stream, into main\n" +
      "by:       agent of db7\n" +
      "system:   identifier 75, timeline 1\n" +
      "slot:     coppice_x, active, reserved, keeps WAL from 0/5000000 (17 MB), given up after 1 GB more\n" +
      "max age:  1m\n" +
      "server:   0/6000000\n" +
      "received: 0/5800000\n" +
      "stored:   0/5000000\n" +
      "rate:     1.2 MB/s written, 900 kB/s stored\n" +
      "behind:   17 MB; all that was committed until 9 s ago is stored, but for what is missing below\n" +
      "reported: 3 s ago\n" +
      "✗ the repository is away\n" +
      "  next: coppice repo check main\n" +
      "\n" +
      "TIMELINE  SYSTEM  FROM       TO           SIZE\n" +
      "1         75      0/1000000  0/2000000   17 MB\n" +
      "gap               0/2000000  0/3000000   17 MB\n" +
      "1         75      0/3000000  0/4000000   17 MB\n" +
      "gap               0/4000000  0/4800000  8.4 MB\n" +
      "2         75      0/4800000  0/5000000  8.4 MB\n" +
      "\n" +
      "recovery can reach 2026-11-21T11:00:00Z to 2026-11-21T11:59:51Z on timeline 1\n",
  );
});

test("what was stored by a clock that is set back since is not called stored until now", () => {
  const storedTime = before(-3_600_000);
  const archive = create(WalArchiveSchema, { clusterName: "shop", repositoryName: "main", lagBytes: 16n, storedTime });
  expect(formatArchive({ archive, windows: [] }, session)).toContain(
    "16 B; all that was committed until 2026-11-21T13:00:00Z, by a clock of the server that was ahead, is stored\n",
  );
});

test("a slot is named before the agent has looked at it, and said to be missing when it is", () => {
  const base = { clusterName: "shop", repositoryName: "main", hostName: "db7", settings: { slot: "coppice_x" } };
  const lines = (more: object) =>
    formatArchive({ archive: create(WalArchiveSchema, { ...base, ...more }), windows: [] }, session);
  expect(lines({})).toContain("slot:     coppice_x\n");
  expect(lines({ settings: {}, slot: { name: "coppice_cls_1", exists: false } })).toContain(
    "slot:     coppice_cls_1, not there\n",
  );
});

test("what a server hands over, what waits and what was refused is said, and no slot", () => {
  const archive = create(WalArchiveSchema, {
    clusterName: "shop",
    repository: "rep_1",
    repositoryName: "main",
    hostName: "db7",
    settings: { mode: WalMode.PUSH, slot: "coppice_x" },
    storedLsn: "0/5000000",
    archiver: {
      mode: "on",
      isCommandSet: true,
      waitingSegments: 3n,
      lastArchived: "000000010000000000000004",
      lastArchivedTime: before(2000),
      failedCount: 2n,
      lastFailed: "000000010000000000000003",
      lastFailedTime: before(60_000),
      refused: { message: "000000010000000000000004 was offered out of /clone" },
      refusedTime: before(5000),
    },
  });
  expect(formatArchive({ archive, windows: [] }, session)).toBe(
    "cluster:  shop\n" +
      "archived: push, into main\n" +
      "by:       agent of db7\n" +
      "archiver: archive_mode on, WAL is handed to the agent\n" +
      "waiting:  3 files\n" +
      "last:     000000010000000000000004, 2 s ago\n" +
      "failed:   2 times, last 000000010000000000000003, 1 min ago\n" +
      "refused:  000000010000000000000004 was offered out of /clone, 5 s ago\n" +
      "stored:   0/5000000\n" +
      "reported: never\n",
  );
});

test("who owns the WAL is said, since when and after whom, and for whom is waited", () => {
  const archive = create(WalArchiveSchema, {
    clusterName: "shop",
    repository: "rep_1",
    repositoryName: "main",
    hostName: "db8",
    settings: { mode: WalMode.STREAM },
  });
  const held = { sinceTime: before(180_000), formerHostName: "db7", formerTimeline: 1, formerLsn: "0/5000000" };
  const lines = (ownership: MessageInitShape<typeof WalOwnershipSchema>) =>
    formatArchive(
      { archive: { ...archive, ownership: create(WalOwnershipSchema, { ...held, ...ownership }) }, windows: [] },
      session,
    )
      .split("\n")
      .slice(3, -2);
  expect(lines({})).toEqual(["owner:    db8, held for 3 min after db7, stopped at 0/5000000 of timeline 1"]);
  expect(lines({ formerDead: true, deadHostNames: ["db7"] })).toEqual([
    "owner:    db8, held for 3 min after db7, declared dead",
    "dead:     db7, not heard of since",
  ]);
  expect(lines({ nextHost: "hst_9", nextHostName: "db9", nextTime: before(60_000) })).toEqual([
    "owner:    moving from db8 to db9, waiting for 1 min for db8 to say that it has stopped",
    "if dead:  coppice wal setup shop --owner-dead db8",
  ]);
});
