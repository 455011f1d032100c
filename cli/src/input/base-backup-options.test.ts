import {
  BaseBackupCodec,
  CheckpointMode,
  IncrementalMethod,
} from "@coppice/proto/gen/coppice/common/v1/base_backup_options";
import { BackupKind } from "@coppice/proto/gen/coppice/common/v1/backup_kind";
import { Command } from "commander";
import { expect, test } from "vitest";
import { baseBackupFlags, baseBackupOptionsFromFlags, refuseBaseBackupFlags } from "./base-backup-options.ts";
import { dumpFlags } from "./dump-options.ts";

function parse(...words: string[]) {
  const command = new Command().exitOverride().configureOutput({ writeErr: () => {} });
  for (const option of [...baseBackupFlags(), ...dumpFlags()]) command.addOption(option);
  return command.parse(words, { from: "user" }).opts();
}

test("flags of a physical backup become its options", () => {
  const flags = parse(
    ..."--wal embedded --checkpoint spread --max-rate 50MB --codec zstd --level 7 --compression-workers 3 --accept-corrupt --backup-label x".split(
      " ",
    ),
  );
  expect(baseBackupOptionsFromFlags(BackupKind.FULL, flags)).toMatchObject({
    walEmbedded: true,
    checkpoint: CheckpointMode.SPREAD,
    maxRateBytes: 50_000_000n,
    codec: BaseBackupCodec.ZSTD,
    compressionLevel: 7,
    compressionWorkers: 3,
    acceptCorrupt: true,
    label: "x",
  });
  const plain = baseBackupOptionsFromFlags(BackupKind.FULL, parse());
  expect(plain).toMatchObject({ walEmbedded: false, walArchived: false, maxRateBytes: 0n, compressionWorkers: 0 });
  expect(plain.walWait).toBeUndefined();
  const archived = parse("--wal", "archive", "--wal-wait", "10m");
  expect(baseBackupOptionsFromFlags(BackupKind.FULL, archived)).toMatchObject({
    walEmbedded: false,
    walArchived: true,
    walWait: { seconds: 600n },
  });
});

test("an incremental may name its parent, and a full has none", () => {
  const flags = parse("--parent", "bkp_1");
  expect(baseBackupOptionsFromFlags(BackupKind.INCREMENTAL, flags)).toMatchObject({
    parent: "bkp_1",
  });
  expect(() => baseBackupOptionsFromFlags(BackupKind.FULL, flags)).toThrow("a full backup has no parent");
  const byWal = parse("--method", "wal");
  expect(baseBackupOptionsFromFlags(BackupKind.INCREMENTAL, byWal).method).toBe(IncrementalMethod.WAL);
  expect(() => baseBackupOptionsFromFlags(BackupKind.FULL, byWal)).toThrow("a full backup has no method");
});

test.each([
  [["--database", "x"], "--database: that is about dumps"],
  [["--no-owner", "--jobs", "2"], "--jobs, --no-owner: that is about dumps"],
  [["--codec", "gzip", "--level", "12"], "--level 12 is none of --codec gzip"],
  [["--codec", "gzip", "--compression-workers", "2"], "--compression-workers: --codec gzip has none"],
  [["--codec", "none", "--level", "1"], "--level 1 is none of --codec none"],
  [["--wal", "embedded", "--wal-wait", "1m"], "--wal-wait: WAL that is embedded is not waited for"],
])("a physical backup with %j is refused", (words, message) => {
  expect(() => baseBackupOptionsFromFlags(BackupKind.FULL, parse(...words))).toThrow(message);
});

test("a flag of physical backups is refused with a dump", () => {
  expect(() => refuseBaseBackupFlags(parse("--wal", "embedded"))).toThrow("--wal: that is about physical backups");
  expect(() => refuseBaseBackupFlags(parse("--codec", "gzip", "--no-owner"))).not.toThrow();
});

test("an incremental by archived WAL has nothing to compress", () => {
  const flags = parse("--method", "wal", "--compression-workers", "2");
  expect(() => baseBackupOptionsFromFlags(BackupKind.INCREMENTAL, flags)).toThrow("copies nothing");
});

test.each(["1kB", "2GiB", "fast"])("a rate of %s is refused", (rate) => {
  expect(() => parse("--max-rate", rate)).toThrow("32KiB to 1GiB");
});
