import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { create, toJsonString } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { BackupKind } from "@coppice/proto/gen/coppice/common/v1/backup_kind";
import { BackupManifestSchema } from "@coppice/proto/gen/coppice/repository/v1/manifest";
import { expect, onTestFinished, test } from "vitest";
import { backupPrefix, manifestKey } from "../repository/layout.ts";
import { openFilesystem } from "../storage/filesystem.ts";
import { findDump, isChainWhole, readRepository } from "./catalog.ts";

const signal = new AbortController().signal;
const stream = (key: string) => ({ codec: "none", objects: [{ key, sizeBytes: 1n, sha256: "0".repeat(64) }] });
const streams = {
  base: stream("base"),
  wal: stream("wal"),
  backupManifest: stream("backup_manifest"),
  walEmbedded: true,
  walSegmentBytes: 16_777_216n,
  backupManifestSha256: "0".repeat(64),
};

test("physical backups are in order of WAL and judged by what they build on, whatever the clock said", async () => {
  const folder = await mkdtemp(join(tmpdir(), "coppice-offline-"));
  onTestFinished(() => rm(folder, { recursive: true }));
  const storage = await openFilesystem(folder, "op_backup");
  const store = async (time: string, id: string, value: { stopLsn: string; parentBackupId?: string }) => {
    const when = timestampFromDate(new Date(time));
    const kind = value.parentBackupId === undefined ? BackupKind.FULL : BackupKind.INCREMENTAL;
    const manifest = create(BackupManifestSchema, {
      formatVersion: 1,
      backupId: `bkp_${id}`,
      kind,
      clusterId: "cls_a",
      clusterName: "shop",
      systemIdentifier: "1",
      startTime: when,
      endTime: when,
      complete: true,
      content: {
        case: "physical",
        value: { timeline: 1, startLsn: "0/1", ...streams, ...value },
      },
    });
    const stamp = time.replaceAll(/[-:]/g, "").replace(".000", "");
    const name = `${stamp}_${(BackupKind[kind] ?? "").toLowerCase()}_bkp_${id}`;
    const key = join(folder, manifestKey(backupPrefix({ clusterId: "cls_a", folder: name })));
    await mkdir(dirname(key), { recursive: true });
    await writeFile(key, toJsonString(BackupManifestSchema, manifest));
  };
  await store("2026-11-19T01:30:00Z", "b", { stopLsn: "0/100" });
  // Then the clock was set back: what came after has the lesser id.
  await store("2026-11-20T01:30:00Z", "z", { stopLsn: "0/200" });
  await store("2026-11-18T01:30:00Z", "a", { stopLsn: "0/300", parentBackupId: "bkp_z" });
  await store("2026-11-18T02:30:00Z", "c", { stopLsn: "0/280", parentBackupId: "bkp_gone" });
  const { clusters, unreadable } = await readRepository(storage, signal);
  const [shop] = clusters;
  if (!shop) throw new Error("no cluster");
  const { backups, lastGoodPhysical } = shop;
  expect(unreadable).toEqual([]);
  expect(backups.map((backup) => [backup.address.backupId, isChainWhole(backup, backups)])).toEqual([
    ["bkp_a", true],
    ["bkp_c", false],
    ["bkp_z", true],
    ["bkp_b", true],
  ]);
  expect(lastGoodPhysical?.address.backupId).toBe("bkp_a");

  // Where there is no dump, the way is to restore a data directory.
  expect(() => findDump(shop, undefined)).toThrow(
    expect.objectContaining({
      message: "shop has no complete dump of the whole cluster",
      hint: expect.stringMatching(
        /physical backup: coppice-agent restore-directory 'shop' .* --into FOLDER$/,
      ) as unknown,
    }),
  );
  expect(() => findDump(shop, "bkp_a")).toThrow(
    expect.objectContaining({
      message: expect.stringContaining("is a physical backup") as unknown,
      hint: expect.stringMatching(/restore-directory .* --backup bkp_a$/) as unknown,
    }),
  );
});
