import { create } from "@bufbuild/protobuf";
import { OperationSchema } from "@coppice/proto/gen/coppice/control/v1/operation";
import { CleanedWalSchema, UnneededReason } from "@coppice/proto/gen/coppice/control/v1/physical_operation";
import { expect, test } from "vitest";
import { formatCleanedWal } from "./cleaned-wal.ts";

const context = { paint: (_style: string, text: string) => text, tookMs: 2000 };
const operation = (more: object = {}) =>
  create(OperationSchema, {
    spec: { case: "cleanWal", value: { clusterName: "shop", repositoryName: "main", backedUp: true, ...more } },
  });
const stretch = (endLsn: string, reason: UnneededReason, backup = "") => ({
  stretch: { timeline: 1, startLsn: "0/1000000", endLsn },
  reason,
  backup,
});
const cleaned = create(CleanedWalSchema, {
  stretches: [
    { unneeded: stretch("0/5000000", UnneededReason.BEFORE_BACKUPS, "bkp_b"), objects: 4, bytes: 4_000_000n },
    { unneeded: stretch("0/2000000", UnneededReason.LEFT_OVER), objects: 0, bytes: 0n },
    { unneeded: stretch("0/6000000", UnneededReason.ABANDONED), objects: 1, bytes: 1_000_000n },
  ],
  parts: 2,
  partsBytes: 500_000n,
  anchors: 3,
  claims: 1,
});

test("what went is said stretch by stretch, each with its reason", () => {
  expect(formatCleanedWal(cleaned, operation(), context)).toBe(
    "✓ 11 objects of WAL of shop in main are deleted, 5.5 MB in 2 s\n" +
      "  timeline 1, 0/1000000 to 0/5000000: 4 objects, 4 MB; before bkp_b, the oldest backup that leads on from there\n" +
      "  timeline 1, 0/1000000 to 0/6000000: 1 object, 1 MB; no backup leads to it\n" +
      "  2 parts of segments that are stored whole, 500 kB\n" +
      "  and what belongs to it: 3 clock anchors, 1 claim\n" +
      "  next: coppice wal status shop\n",
  );
});

test("what would go is said as that, and so is that nothing does", () => {
  const shown = formatCleanedWal(cleaned, operation({ dryRun: true }), context);
  expect(shown).toContain("✓ 11 objects of WAL of shop in main would be deleted, 5.5 MB; nothing was done\n");
  expect(shown).toContain("  next: coppice wal cleanup shop --in main\n");
  const nothing = create(CleanedWalSchema);
  expect(formatCleanedWal(nothing, operation(), context)).toBe(
    "✓ all WAL of shop in main is needed, nothing was deleted\n",
  );
  expect(formatCleanedWal(nothing, operation({ backedUp: false, dryRun: true }), context)).toBe(
    "✓ all WAL of shop in main is needed, nothing would be deleted\n" +
      "  there is no physical backup: the first one may need any of it\n",
  );
});
