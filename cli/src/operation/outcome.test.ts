// One thing: what each kind of operation says at its end, a test a sentence.
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { CheckItemSchema, CheckStatus } from "@coppice/proto/gen/coppice/common/v1/check";
import { DumpContents, type DumpOptionsSchema } from "@coppice/proto/gen/coppice/common/v1/dump_options";
import { OperationSchema, OperationState } from "@coppice/proto/gen/coppice/control/v1/operation";
import { expect, test } from "vitest";
import { liveStatements } from "./checks.ts";
import { formatOutcome, outcomeName, sawPartly, sawTrouble } from "./outcome.ts";
import { formatSetback } from "./setback.ts";

const plain = (_style: string, text: string) => text;
const now = new Date("2026-11-21T12:00:00Z");
const operationOf = (init: MessageInitShape<typeof OperationSchema>) =>
  create(OperationSchema, {
    id: "op_1",
    hostName: "db7",
    startTime: timestampFromDate(new Date(now.getTime() - 14_000)),
    endTime: timestampFromDate(now),
    ...init,
  });

test("a backup ends with its numbers and the command that restores it", () => {
  const operation = operationOf({
    state: OperationState.SUCCEEDED,
    spec: { case: "createBackup", value: { clusterName: "shop" } },
    result: {
      case: "createdBackup",
      value: {
        backup: "bkp_1",
        databases: 3,
        databaseBytes: 1_200_000_000n,
        storedBytes: 310_000_000n,
        complete: true,
      },
    },
  });
  expect(formatOutcome(operation, { paint: plain, now, database: "my orders" })).toBe(
    "✓ bkp_1  3 databases, 1.2 GB → 310 MB in 14 s, checked\n" +
      "  next: coppice restore create shop --database 'my orders' --as 'my orders-copy'\n",
  );
  expect(outcomeName(operation)).toBe("bkp_1");
});

test("after a selection the next command names it, for it is never the last good one", () => {
  const ended = (dump: MessageInitShape<typeof DumpOptionsSchema>) =>
    formatOutcome(
      operationOf({
        state: OperationState.SUCCEEDED,
        spec: { case: "createBackup", value: { clusterName: "shop", dump } },
        result: { case: "createdBackup", value: { backup: "bkp_1", databases: 1, complete: true } },
      }),
      { paint: plain, now, database: "a".repeat(63) },
    );
  const command = `next: coppice restore create shop --database ${"a".repeat(63)} --as ${"a".repeat(58)}-copy`;
  expect(ended({})).toContain(`${command}\n`);
  expect(ended({ databases: ["orders"] })).toContain(`${command} --backup bkp_1\n`);
  expect(ended({ contents: DumpContents.DATA_ONLY })).toContain("next: coppice backup get bkp_1\n");
});

test("a check that saw dumps which would fail does not read as a success", () => {
  const checked = (databases: readonly string[]) =>
    operationOf({
      state: OperationState.SUCCEEDED,
      spec: { case: "checkCluster", value: { clusterName: "shop" } },
      result: {
        case: "checkedCluster",
        value: {
          items: databases.map((database) => ({
            name: "contents",
            status: CheckStatus.WARNING,
            message: "its dump fails",
            fix: "GRANT x;",
            database,
          })),
        },
      },
    });
  const bad = checked(["orders", "orders", "stock"]);
  expect([sawPartly(bad), sawPartly(checked([])), sawPartly(checked([""]))]).toEqual([true, false, false]);
  expect(formatOutcome(bad, { paint: plain, now })).toMatch(
    /^✗ cluster shop can be protected except 2 databases, checked in 14 s\n[^]*! contents {2}its dump fails\n {4}fix: GRANT x;/,
  );
});

test("the plan of a whole cluster says which databases are not in the backup, and what is left out of the others", () => {
  const warning = {
    name: "left-out",
    status: CheckStatus.WARNING,
    message: "the backup bkp_1 leaves out: rows of log",
  };
  const planned = operationOf({
    state: OperationState.SUCCEEDED,
    spec: {
      case: "planRestore",
      value: { cluster: { targetClusterName: "shop", missing: ['"old": left out on request'] } },
    },
    result: {
      case: "restorePlan",
      value: { backup: "bkp_1", databases: [{ database: "orders", plan: { items: [warning] } }] },
    },
  });
  const text = formatOutcome(planned, { paint: plain, now });
  expect(text).toContain('  ! not in the backup: "old": left out on request\n');
  expect(text).toContain("  ! left-out  orders: the backup bkp_1 leaves out: rows of log\n");
});

test("a failed backup says in which phase, where, after how long and why, and what is safe", () => {
  const operation = operationOf({
    state: OperationState.FAILED,
    spec: { case: "createBackup", value: { clusterName: "shop" } },
    progress: { work: { phase: "preflight" } },
    failure: {
      reason: "REPOSITORY_NOT_WRITABLE",
      message: "repository main: may not write",
      hint: "coppice repo check main",
    },
  });
  const { text, exitCode } = formatSetback(operation, plain, ["last good backup: 6 h ago"]);
  expect(text).toBe(
    "✗ op_1 failed in preflight on db7 (14 s): repository main: may not write\n" +
      "  next: coppice repo check main\n" +
      "  safe: nothing half-made was left behind; last good backup: 6 h ago\n",
  );
  expect(exitCode).toBe(4);
});

test("an incomplete backup is partial", () => {
  const operation = operationOf({
    state: OperationState.FAILED,
    failure: { reason: "BACKUP_INCOMPLETE", message: "1 of 2 databases failed" },
    result: { case: "createdBackup", value: { backup: "bkp_1", databases: 1 } },
  });
  const { text, exitCode } = formatSetback(operation, plain);
  expect(exitCode).toBe(8);
  expect(text).toContain("bkp_1 is stored with 1 of its databases");
  expect(text).not.toContain("nothing half-made");
});

test("a backup that holds no database at all is not said to be restorable", () => {
  const operation = operationOf({
    state: OperationState.FAILED,
    failure: { reason: "BACKUP_INCOMPLETE", message: "1 of 1 databases failed" },
    result: { case: "createdBackup", value: { backup: "bkp_1", databases: 0 } },
  });
  const { text, exitCode } = formatSetback(operation, plain);
  expect(exitCode).toBe(8);
  expect(text).toContain("bkp_1 is stored with none of its databases");
  expect(text).not.toContain("can be restored");
});

test("what could not be cleared away is named", () => {
  const operation = operationOf({ state: OperationState.CANCELLED, leavings: ["database coppice_1"] });
  const { text, exitCode } = formatSetback(operation, plain);
  expect(text).toContain("  left: database coppice_1");
  expect(exitCode).toBe(1);
});

test("a failed check shows each thing it looked at", () => {
  const operation = operationOf({
    state: OperationState.FAILED,
    failure: { reason: "CLUSTER_UNREACHABLE", message: "no connection" },
    result: {
      case: "checkedCluster",
      value: { items: [{ name: "connection", status: CheckStatus.FAILED, message: "refused", fix: "start it" }] },
    },
  });
  const { text, exitCode } = formatSetback(operation, plain);
  expect(text).toContain("  ✗ connection  refused\n    fix: start it\n");
  expect(exitCode).toBe(6);
});

test("a check that saw something bad does not read as a success, and says what mends it", () => {
  const operation = operationOf({
    state: OperationState.SUCCEEDED,
    spec: { case: "checkRepository", value: { repositoryName: "main" } },
    result: {
      case: "checkedRepository",
      value: { items: [{ name: "reachable", status: CheckStatus.FAILED, message: "no folder", fix: "make it" }] },
    },
  });
  expect(sawTrouble(operation)).toBe(true);
  expect(formatOutcome(operation, { paint: plain, now })).toBe(
    "✗ repository main does not work from db7, checked in 14 s\n" +
      "  next: make it\n" +
      "  ✗ reachable  no folder\n" +
      "    fix: make it\n",
  );
});

test("a check that ran confirmed statements says which, what they mended, and what was refused", () => {
  const checked = (problem: string) =>
    operationOf({
      state: OperationState.SUCCEEDED,
      spec: { case: "checkCluster", value: { clusterName: "shop", fixStatements: ["ALTER ROLE a REPLICATION;"] } },
      result: {
        case: "checkedCluster",
        value: {
          items: [{ name: "connection", status: CheckStatus.OK, message: "it answers" }],
          applied: [{ statement: "ALTER ROLE a REPLICATION;", problem }],
          mended: problem ? [] : [{ name: "replication-role", message: "no REPLICATION" }],
        },
      },
    });
  const good = checked("");
  expect(sawTrouble(good)).toBe(false);
  expect(formatOutcome(good, { paint: plain, now })).toBe(
    "✓ cluster shop can be protected, checked in 14 s\n" +
      "  ran: ALTER ROLE a REPLICATION;\n" +
      "  mended: replication-role, it was: no REPLICATION\n" +
      "  ✓ connection  it answers\n" +
      "  next: coppice backup create shop\n",
  );
  const bad = checked("permission denied");
  expect(sawTrouble(bad)).toBe(true);
  expect(formatOutcome(bad, { paint: plain, now })).toContain(
    "✗ cluster shop refused statements that mend it, checked in 14 s\n" +
      "  next: run them as a superuser, with psql\n" +
      "  ! refused: ALTER ROLE a REPLICATION; permission denied\n",
  );
});

test("only statements that need no restart are offered, each once and in order", () => {
  const item = (statements: string[], needsRestart: boolean) => create(CheckItemSchema, { statements, needsRestart });
  const items = [item(["a;", "reload;"], false), item(["b;"], true), item([], false), item(["c;", "reload;"], false)];
  expect(liveStatements(items)).toEqual(["a;", "reload;", "c;"]);
});

test("a cleaning says what it found, and one that only looked how to remove it", () => {
  const cleaned = (dryRun: boolean, objects: bigint, removed: bigint) =>
    formatOutcome(
      operationOf({
        state: OperationState.SUCCEEDED,
        spec: { case: "cleanRepository", value: { repositoryName: "main", dryRun } },
        result: {
          case: "cleanedRepository",
          value: { objects, removed, bytes: objects * 1000n, leavings: objects > 0n ? ["cls_1/backups/x"] : [] },
        },
      }),
      { paint: plain, now },
    );
  expect(cleaned(true, 2n, 0n)).toBe(
    "✓ repository main holds 2 unfinished objects, 2 kB; nothing was removed\n  cls_1/backups/x\n  next: coppice repository clean main\n",
  );
  expect(cleaned(false, 1n, 1n)).toBe(
    "✓ 1 unfinished object, 1 kB found in repository main, 1 removed\n  cls_1/backups/x\n",
  );
  expect(cleaned(false, 0n, 0n)).toBe("✓ repository main holds nothing that was left unfinished\n");
});

test("a rebuild that could not read everything reads as no success", () => {
  const rebuilt = (problems: string[], undecrypted = false) =>
    operationOf({
      state: OperationState.SUCCEEDED,
      spec: { case: "rebuildRepository", value: { repositoryName: "main" } },
      result: {
        case: "rebuiltRepository",
        value: {
          clusters: ["shop"],
          backups: 2,
          knownBackups: 1,
          problems,
          foreignObjects: 2n,
          foreignKeys: ["a\n"],
          undecrypted,
          leftOut: ["y: no physical backup"],
        },
      },
    });
  expect(sawTrouble(rebuilt([]))).toBe(false);
  expect(formatOutcome(rebuilt([]), { paint: plain, now })).toBe(
    "✓ the catalog has what repository main holds: 2 backups entered, 1 known before, of 1 cluster (shop)\n" +
      "  ! y: no physical backup\n" +
      "  2 objects that no Coppice made, left alone: a\\n, …\n" +
      "  next: coppice backup list --repository main\n",
  );
  expect(sawTrouble(rebuilt(["x: torn"]))).toBe(true);
  expect(formatOutcome(rebuilt(["x: torn"]), { paint: plain, now })).toMatch(
    /^✗ not all that repository main holds could be entered: .*\n {2}next: .*\n {2}! x: torn\n/,
  );
  expect(formatOutcome(rebuilt(["x: encrypted"], true), { paint: plain, now })).toContain(
    "\n  next: coppice host update db7 --label may-decrypt=true, and then: coppice repository rebuild main\n",
  );
});
