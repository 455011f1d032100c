import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { type BackupAddress, BackupAddressSchema } from "@coppice/proto/gen/coppice/agent/v1/repository_target";
import { BackupKind } from "@coppice/proto/gen/coppice/common/v1/backup_kind";
import { type BackupManifest, BackupManifestSchema } from "@coppice/proto/gen/coppice/repository/v1/manifest";
import { ClusterFileSchema } from "@coppice/proto/gen/coppice/repository/v1/cluster_file";
import { writeClusterFile } from "../../agent/src/repository/cluster-file.ts";
import { backupPrefix, recipeName } from "../../agent/src/repository/layout.ts";
import { commitManifest, storeStream, storeText } from "../../agent/src/repository/put.ts";
import { openFilesystem } from "../../agent/src/storage/filesystem.ts";
import type { Storage } from "../../agent/src/storage/storage.ts";

/** A committed backup of made-up bytes in a temporary folder: globals, and databases orders and stock in small objects. */
export interface StoredBackup extends AsyncDisposable {
  /** Folder of the repository. */
  readonly folder: string;
  readonly storage: Storage;
  readonly prefix: string;
  readonly manifest: BackupManifest;
  /** With the manifest's digest. */
  readonly address: BackupAddress;
  /** Path of an object of the backup. */
  path(key: string): string;
}

/** Stores a backup; orders has three objects of 1 MB, 1 MB and 500 kB, stock is empty. */
export async function storeBackup(signal: AbortSignal): Promise<StoredBackup> {
  const folder = await mkdtemp(join(tmpdir(), "coppice-backup-"));
  const storage = await openFilesystem(folder, "op_backup");
  const place = { clusterId: "cls_a", folder: "20261121T013000Z_dump_bkp_a" };
  const prefix = backupPrefix(place);
  await writeClusterFile(storage, create(ClusterFileSchema, { clusterId: place.clusterId, name: "shop" }), signal);
  const store = (name: string, bytes: Buffer) =>
    storeStream(storage, {
      prefix,
      name,
      source: Readable.from([bytes], { objectMode: false }),
      codec: "none",
      encrypted: false,
      limitBytes: 1_000_000,
      signal,
    });
  const time = timestampFromDate(new Date("2026-11-21T01:30:00Z"));
  const database = { format: "custom", snapshotLsn: "0/1A2B3C", snapshotTime: time };
  const manifest = create(BackupManifestSchema, {
    formatVersion: 1,
    backupId: "bkp_a",
    kind: BackupKind.DUMP,
    clusterId: place.clusterId,
    clusterName: "shop",
    operationId: "op_backup",
    startTime: time,
    endTime: time,
    complete: true,
    recipe: await storeText(storage, { prefix, key: recipeName, text: "zstd -d …\n", signal }),
    content: {
      case: "dump",
      value: {
        globals: await store("globals.sql.zst", Buffer.from("CREATE ROLE shop;\n")),
        databases: [
          { ...database, oid: 1, name: "orders", stream: await store("db/1.dump.zst", Buffer.alloc(2_500_000, "o")) },
          { ...database, oid: 2, name: "stock", stream: await store("db/2.dump.zst", Buffer.alloc(0)) },
        ],
      },
    },
  });
  const { sha256: manifestSha256 } = await commitManifest(storage, { prefix, manifest, signal });
  return {
    folder,
    storage,
    prefix,
    manifest,
    address: create(BackupAddressSchema, { ...place, backupId: "bkp_a", manifestSha256 }),
    path: (key) => join(folder, prefix, key),
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }),
  };
}
