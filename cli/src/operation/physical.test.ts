import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { BackupKind } from "@coppice/proto/gen/coppice/common/v1/backup_kind";
import { IncrementalMethod } from "@coppice/proto/gen/coppice/common/v1/base_backup_options";
import { RestoredServerState } from "@coppice/proto/gen/coppice/common/v1/recovery_target";
import { CheckStatus } from "@coppice/proto/gen/coppice/common/v1/check";
import { OperationSchema, OperationState } from "@coppice/proto/gen/coppice/control/v1/operation";
import { expect, test } from "vitest";
import { formatOutcome, outcomeName, sawTrouble } from "./outcome.ts";
import { formatSetback } from "./setback.ts";

const plain = (_style: string, text: string) => text;
const now = new Date("2026-11-21T12:00:00Z");
const operationOf = (init: MessageInitShape<typeof OperationSchema>) =>
  create(OperationSchema, {
    id: "op_1",
    hostName: "db7",
    state: OperationState.SUCCEEDED,
    startTime: timestampFromDate(new Date(now.getTime() - 14_000)),
    endTime: timestampFromDate(now),
    ...init,
  });
const shown = (operation: ReturnType<typeof operationOf>) => formatOutcome(operation, { paint: plain, now });

test("a full backup ends with its numbers, its WAL and the command that plans its restore", () => {
  const operation = operationOf({
    spec: { case: "createPhysicalBackup", value: { clusterName: "shop", kind: BackupKind.FULL } },
    result: {
      case: "createdPhysicalBackup",
      value: {
        backup: "bkp_1",
        kind: BackupKind.FULL,
        dataBytes: 1_200_000_000n,
        storedBytes: 310_000_000n,
        startLsn: "0/2000028",
        stopLsn: "0/2000120",
      },
    },
  });
  expect(shown(operation)).toBe(
    "✓ bkp_1  full, 1.2 GB → 310 MB in 14 s, checked\n" +
      "  WAL from 0/2000028 to 0/2000120, in the backup, consistent at its end\n" +
      "  next: coppice restore plan shop --backup bkp_1 --to db7:/EMPTY/DIRECTORY --immediate\n",
  );
  expect(outcomeName(operation)).toBe("bkp_1");
});

test("a WAL increment says how much WAL it is, and how it is restored to its end", () => {
  const operation = operationOf({
    spec: {
      case: "createPhysicalBackup",
      value: { clusterName: "shop", kind: BackupKind.INCREMENTAL, walRepository: "rep_1" },
    },
    result: {
      case: "createdPhysicalBackup",
      value: {
        backup: "bkp_2",
        kind: BackupKind.INCREMENTAL,
        method: IncrementalMethod.WAL,
        parent: "bkp_1",
        dataBytes: 40_000_000n,
        walBytes: 12_000_000n,
        startLsn: "0/2000120",
        stopLsn: "0/4000120",
      },
    },
  });
  expect(shown(operation)).toBe(
    "✓ bkp_2  incremental, 40 MB of WAL → 12 MB in 14 s, checked\n" +
      "  WAL from 0/2000120 to 0/4000120, in the archive, restored by replay to its end\n" +
      "  what has changed since bkp_1\n" +
      "  next: coppice restore plan shop --backup bkp_2 --to db7:/EMPTY/DIRECTORY --immediate --start\n",
  );
});

test("an incremental that became a full says why, and corrupt pages and missing configuration are not passed over", () => {
  const text = shown(
    operationOf({
      result: {
        case: "createdPhysicalBackup",
        value: {
          backup: "bkp_2",
          kind: BackupKind.FULL,
          fullReason: "the timeline has changed",
          corruptPages: true,
          missingConfiguration: ["/etc/pg_hba.conf: permission denied"],
        },
      },
    }),
  );
  expect(text).toContain("  ! it became a full backup: the timeline has changed\n");
  expect(text).toContain("  ! pages failed their checksums");
  expect(text).toContain(
    "  ! its configuration lacks /etc/pg_hba.conf: permission denied\n  what is restored gets plain",
  );
});

test("a restored server says where it runs, where recovery ended and what was kept", () => {
  const operation = operationOf({
    spec: { case: "restorePhysical", value: { clusterName: "shop" } },
    result: {
      case: "restoredDataDirectory",
      value: {
        dataDirectory: "/srv/pg",
        bytesRead: 310_000_000n,
        dataBytes: 1_200_000_000n,
        started: true,
        endLsn: "0/3000000",
        lastCommitTime: { seconds: 1_795_255_387n, nanos: 910_231_000 },
        timeline: 2,
        keptAs: "/srv/pg.before",
        address: "127.0.0.1:5433",
        warnings: ["pg_hba.conf could not be read"],
      },
    },
  });
  expect(shown(operation)).toBe(
    "✓ shop is restored in db7:/srv/pg: 310 MB read and checked, 1.2 GB written, in 14 s\n" +
      "  its server runs at 127.0.0.1:5433, on timeline 2\n" +
      "  recovery ended at 0/3000000; the last transaction in it is of 2026-11-21T10:03:07.910231Z\n" +
      "  nobody starts it after a reboot: to hand it to your service manager, `pg_ctl -D /srv/pg stop` and start it there\n" +
      "  it archives no WAL until it is told to\n" +
      "  what was there is kept as /srv/pg.before: remove it when nobody needs it\n" +
      "  ! pg_hba.conf could not be read\n" +
      "  next: coppice cluster list --discovered\n",
  );
  expect(outcomeName(operation)).toBe("/srv/pg");
});

test("a server that waits at its target or has shut down there is not said to run, and how it goes on is", () => {
  const at = (serverState: RestoredServerState) =>
    shown(
      operationOf({
        result: {
          case: "restoredDataDirectory",
          value: { dataDirectory: "/srv/pg", started: true, endLsn: "0/3000000", timeline: 1, serverState },
        },
      }),
    );
  const paused = at(RestoredServerState.PAUSED);
  expect(paused).toContain("can be read but not written");
  expect(paused).toContain("`select pg_wal_replay_resume()` ends it there");
  const shutDown = at(RestoredServerState.SHUT_DOWN);
  expect(shutDown).toContain("its server has shut down at its target, on timeline 1\n");
  expect(shutDown).toContain("next: as the server's user on db7: pg_ctl -D /srv/pg start\n");
  for (const text of [paused, shutDown]) expect(text).not.toContain("its server runs");
});

test("a server that was not started is not said to run", () => {
  const text = shown(
    operationOf({ result: { case: "restoredDataDirectory", value: { dataDirectory: "/srv/my pg", bytesRead: 1n } } }),
  );
  expect(text).toContain("its server was not started");
  expect(text).toContain("next: as the server's user on db7: pg_ctl -D '/srv/my pg' start\n");
  const value = { dataDirectory: "/srv/pg", programFolder: "/usr/lib/postgresql/17/bin" };
  expect(shown(operationOf({ result: { case: "restoredDataDirectory", value } }))).toContain(
    "on db7: /usr/lib/postgresql/17/bin/pg_ctl -D /srv/pg start\n",
  );
  expect(text).not.toContain("its server runs");
});

const planned = (status: CheckStatus) =>
  operationOf({
    spec: {
      case: "planPhysical",
      value: {
        restore: {
          clusterName: "shop",
          dataDirectory: "/srv/pg",
          walRepository: "rep_1",
          target: { point: { case: "time", value: { seconds: 1_795_255_387n } } },
        },
      },
    },
    result: {
      case: "physicalPlan",
      value: {
        chain: ["bkp_1", "bkp_2"],
        backupTime: timestampFromDate(new Date(now.getTime() - 3_600_000)),
        storedBytes: 14_000_000_000n,
        dataBytes: 36_000_000_000n,
        neededBytes: 38_000_000_000n,
        freeBytes: 210_000_000_000n,
        timelines: [1, 2],
        startLsn: "0/2000028",
        endLsn: "0/D6000000",
        segments: 212,
        endTime: { seconds: 1_795_255_387n },
        serverTarget: { point: { case: "lsn", value: "0/D6000000" }, exclusive: true },
        items: [{ name: "space", status, message: "210 GB free", fix: status === CheckStatus.OK ? "" : "make room" }],
        steps: ["read", "unpack"],
      },
    },
  });

test("a plan says what would be read and replayed, and what would be there", () => {
  const operation = planned(CheckStatus.OK);
  expect(sawTrouble(operation)).toBe(false);
  expect(shown(operation)).toBe(
    "✓ shop can be restored into db7:/srv/pg, as it was at 2026-11-21T10:03:07Z; nothing was touched\n" +
      "  from bkp_1, then bkp_2, the newest of 1 h ago\n" +
      "  replays WAL from 0/2000028 to 0/D6000000 through timelines 1, 2, at most 212 segments\n" +
      "  everything that was committed until 2026-11-21T10:03:07Z will be there, except what unlogged tables hold\n" +
      "  the server is told to end recovery before WAL position 0/D6000000\n" +
      "  reads 14 GB, writes about 36 GB; needs 38 GB, 210 GB free\n" +
      "  1. read\n" +
      "  2. unpack\n" +
      "  ✓ space  210 GB free\n",
  );
});

test("a plan that would be refused reads as no success, and says what mends it", () => {
  const operation = planned(CheckStatus.FAILED);
  expect(sawTrouble(operation)).toBe(true);
  expect(shown(operation)).toContain("✗ shop cannot be restored into db7:/srv/pg");
  expect(shown(operation)).toContain("  next: make room\n");
});

test("a failed physical backup says that nothing of it was left behind", () => {
  const { text } = formatSetback(
    operationOf({
      state: OperationState.FAILED,
      spec: { case: "createPhysicalBackup", value: { clusterName: "shop" } },
      failure: { reason: "REPOSITORY_NOT_WRITABLE", message: "may not write" },
    }),
    plain,
    ["last good physical backup: 6 h ago"],
  );
  expect(text).toContain("  safe: nothing half-made was left behind; last good physical backup: 6 h ago\n");
});

test("what to do next after a failure names the cluster and the operation it speaks of", () => {
  const next = (spec: NonNullable<MessageInitShape<typeof OperationSchema>["spec"]>, hint: string) =>
    formatSetback(
      operationOf({ state: OperationState.FAILED, spec, failure: { reason: "INTERNAL", message: "no", hint } }),
      plain,
    ).text;
  const restore = { clusterName: "shop" };
  const hint = "see `coppice cluster get CLUSTER`";
  expect(next({ case: "restorePhysical", value: restore }, hint)).toContain("see `coppice cluster get shop`\n");
  expect(next({ case: "planPhysical", value: { restore } }, hint)).toContain("see `coppice cluster get shop`\n");
  const decided = { case: "decideRestore", value: { restore: "op_7", targetClusterName: "crm" } } as const;
  expect(next(decided, "`coppice operation get OPERATION`")).toContain("`coppice operation get op_7`\n");
});
