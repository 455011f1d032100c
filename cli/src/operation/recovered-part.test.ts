import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { RestoreDecision } from "@coppice/proto/gen/coppice/common/v1/held_database";
import { OperationSchema, OperationState } from "@coppice/proto/gen/coppice/control/v1/operation";
import { expect, test } from "vitest";
import { formatOutcome, outcomeName } from "./outcome.ts";

const plain = (_style: string, text: string) => text;
const now = new Date("2026-11-21T12:00:00Z");
type Result = Extract<
  NonNullable<MessageInitShape<typeof OperationSchema>["result"]>,
  { case: "recoveredPart" }
>["value"];
type Spec = Extract<NonNullable<MessageInitShape<typeof OperationSchema>["spec"]>, { case: "recoverPart" }>["value"];

const operationOf = (spec: Omit<Spec, "$typeName">, result: Omit<Result, "$typeName">) =>
  create(OperationSchema, {
    id: "op_1",
    hostName: "db7",
    state: OperationState.SUCCEEDED,
    startTime: timestampFromDate(new Date(now.getTime() - 14_000)),
    endTime: timestampFromDate(now),
    spec: { case: "recoverPart", value: { database: "orders", scratch: "/var/tmp/coppice-op_1", ...spec } },
    result: { case: "recoveredPart", value: result },
  });
const shown = (operation: ReturnType<typeof operationOf>) => formatOutcome(operation, { paint: plain, now });

test("a table that was brought back says where it is, where recovery ended and what differs from the live one", () => {
  const operation = operationOf(
    {
      selection: { tables: [{ schema: "public", name: "items" }] },
      targetClusterName: "shop2",
      restore: { target: { point: { case: "lsn", value: "0/9" } } },
    },
    {
      database: "items_before",
      objects: 3,
      tables: 1,
      rows: 1000n,
      endLsn: "0/9",
      differences: [
        {
          schema: "public",
          table: "items",
          counted: true,
          byKey: true,
          onlyRecovered: 300n,
          onlyLive: 2n,
          changed: 10n,
          same: 690n,
        },
        { schema: "public", table: "big", note: "it takes longer than 60 s" },
      ],
      warnings: ["something"],
    },
  );
  expect(shown(operation)).toBe(
    "✓ public.items of orders, at WAL position 0/9, is in shop2 as items_before: 3 objects compared, 1 table with 1000 rows counted, in 14 s\n" +
      "  recovery ended at 0/9\n" +
      "  public.items: 300 only in what was recovered, 2 only in the live table, 10 changed, 690 the same; by primary key\n" +
      "  ! public.big: its rows were not compared with the live ones: it takes longer than 60 s\n" +
      "  ! something\n" +
      "  the scratch server and db7:/var/tmp/coppice-op_1 are gone\n" +
      "  next: coppice status\n",
  );
  expect(outcomeName(operation)).toBe("items_before");
});

test("a dump file says its host, its size and how it is looked into", () => {
  const operation = operationOf({ file: "/srv/o.dump" }, { file: "/srv/o.dump", fileBytes: 2_000_000n, tables: 2 });
  expect(shown(operation)).toContain(
    "✓ orders, at the latest point there is, is in db7:/srv/o.dump: 2 tables with rows, 2 MB, read by pg_restore, in 14 s\n",
  );
  expect(shown(operation)).toContain("  next: pg_restore --list /srv/o.dump\n");
  expect(outcomeName(operation)).toBe("/srv/o.dump");
});

test("what waits beside says so, that nothing was replaced, and how it is swapped in or dropped", () => {
  const operation = operationOf(
    { targetClusterName: "shop", targetDatabase: "orders", replace: true },
    {
      database: "coppice_restore_1",
      held: { name: "coppice_restore_1", oid: 7, replacesOid: 5 },
      objects: 3,
      tables: 1,
      rows: 1000n,
      onlyLive: {
        objects: [
          { kind: "table", name: "public.newer", rows: 5000n },
          { kind: "view", name: "inv.seen" },
        ],
        more: 2,
      },
    },
  );
  expect(shown(operation)).toBe(
    "✓ orders, at the latest point there is, waits beside orders of shop as coppice_restore_1: 3 objects compared, 1 table with 1000 rows counted, in 14 s\n" +
      "  ! only in the live database: table public.newer (5000 rows), view inv.seen, and 2 more\n" +
      "  the scratch server and db7:/var/tmp/coppice-op_1 are gone\n" +
      "  compared before 2026-11-21T12:00:00Z; what is written into orders later is in none of this\n" +
      "  it has replaced nothing; until it is swapped in or dropped coppice_restore_1 is closed to all but superusers, and in no dump of shop\n" +
      "  when it is not wanted: coppice restore drop op_1\n" +
      "  next: coppice restore swap op_1\n",
  );
  expect(outcomeName(operation)).toBe("coppice_restore_1");
});

test("a decision says what is in place and under which name the other is kept, or what was dropped", () => {
  const decided = (decision: RestoreDecision, database: string, keptAs = "") =>
    create(OperationSchema, {
      state: OperationState.SUCCEEDED,
      spec: { case: "decideRestore", value: { targetClusterName: "shop" } },
      result: { case: "decidedRestore", value: { decision, cluster: "cls_a", database, keptAs } },
    });
  expect(shown(decided(RestoreDecision.SWAP, "orders", "orders_before_1"))).toBe(
    "✓ orders of shop is the restored one now\n" +
      "  the database before is kept as orders_before_1: drop it when nobody needs it\n" +
      "  next: coppice status\n",
  );
  expect(shown(decided(RestoreDecision.DROP, "coppice_restore_1"))).toBe(
    "✓ coppice_restore_1 is dropped from shop; nothing was replaced\n",
  );
});
