import { createHash } from "node:crypto";
import { availableParallelism } from "node:os";
import { Transform, type TransformCallback } from "node:stream";
import { create } from "@bufbuild/protobuf";
import { WorkDoneSchema } from "@coppice/proto/gen/coppice/common/v1/progress";
import {
  type StoredTablespace,
  StoredTablespaceSchema,
} from "@coppice/proto/gen/coppice/repository/v1/physical_content";
import type { StoredStream } from "@coppice/proto/gen/coppice/repository/v1/stored_object";
import { isFailure } from "@coppice/proto/kit/failure";
import {
  type BackupArchive,
  type BackupStart,
  type BaseBackupResult,
  toChecksumFailure,
} from "../../postgres/replication/base-backup.ts";
import type { ServerCompression } from "../../postgres/replication/base-backup-statement.ts";
import type { ReplicationConnection } from "../../postgres/replication/open-replication.ts";
import { compressionsToTry } from "./compression.ts";
import type { Keeping } from "./parent/kept-manifest.ts";
import type { PreparedBackup } from "./prepare-backup.ts";
import { storeEncoded } from "./store-encoded.ts";

/** The archives of a backup, stored. */
export interface StoredArchives {
  readonly start: BackupStart;
  readonly result: BaseBackupResult;
  readonly base: StoredStream;
  readonly tablespaces: readonly StoredTablespace[];
  readonly backupManifest: StoredStream;
  /** SHA-256 of PostgreSQL's plain backup_manifest. */
  readonly backupManifestSha256: string;
  /** Size of the data directory and tablespaces, as the server said before it began. */
  readonly dataBytes: bigint;
}

/** Digests a stream on its way, and gives it to who keeps it. */
function digesting(keeping: Keeping | undefined) {
  const hash = createHash("sha256");
  // Keeping never fails.
  const pass = async (chunk: Buffer, done: TransformCallback) => {
    await keeping?.write(chunk);
    done(null, chunk);
  };
  const through = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      hash.update(chunk);
      void pass(chunk, done);
    },
  });
  return { through, sha256: () => hash.digest("hex") };
}

async function takeArchives(
  prepared: PreparedBackup,
  replication: ReplicationConnection,
  compression: ServerCompression | undefined,
  onStart: (start: BackupStart) => Promise<void>,
): Promise<StoredArchives> {
  const { request, prefix, options, recipients } = prepared;
  const { storage, signal, log, onProgress } = request;
  const { codec, level } = options;
  const common = { prefix, level, recipients, signal, log };
  const archives = new Map<number | undefined, StoredStream>();
  let manifest: { stream: StoredStream; sha256: string } | undefined;
  let start: BackupStart | undefined;
  const work = create(WorkDoneSchema, { phase: "copying" });
  // It may take as long as checkpoint_timeout, and the server says nothing meanwhile.
  const since = new Date().toISOString().replace(/\.\d+/, "");
  onProgress(create(WorkDoneSchema, { phase: "waiting for checkpoint", item: `since ${since}` }));
  const result = await replication.baseBackup(
    {
      label: options.label,
      checkpoint: options.checkpoint,
      ...(options.maxRateKib === undefined ? {} : { maxRateKib: options.maxRateKib }),
      ...(compression ? { serverCompression: compression } : {}),
      incremental: prepared.parent !== undefined,
    },
    {
      async onStart(said) {
        start = said;
        work.totalBytes = totalOf(said);
        await onStart(said);
        onProgress(work);
      },
      async onArchive({ tablespaceOid, content }: BackupArchive) {
        work.item = tablespaceOid === undefined ? "data directory" : `tablespace ${tablespaceOid}`;
        const name = tablespaceOid === undefined ? "base.tar" : `${tablespaceOid}.tar`;
        const stream = { name, source: content, codec, isCompressed: compression !== undefined, ...common };
        archives.set(tablespaceOid, await storeEncoded(storage, stream));
      },
      async onManifest(content) {
        work.item = "backup_manifest";
        const { through, sha256 } = digesting(prepared.keeping);
        content.on("error", (error) => through.destroy(error));
        through.on("close", () => content.destroy());
        const source = content.pipe(through);
        const stream = await storeEncoded(storage, { name: "backup_manifest", source, codec, ...common });
        manifest = { stream, sha256: sha256() };
      },
      onProgress(doneBytes) {
        work.doneBytes = BigInt(doneBytes);
        onProgress(work);
      },
    },
  );
  const base = archives.get(undefined);
  if (!start || !base || !manifest) throw new Error("the server sent no archive of the data directory or no manifest");
  const tablespaces = start.tablespaces.map(({ oid, location }) => {
    const stream = archives.get(oid);
    if (!stream) throw new Error(`the server sent no archive of tablespace ${oid}`);
    return create(StoredTablespaceSchema, { oid, location, stream });
  });
  const { stream: backupManifest, sha256: backupManifestSha256 } = manifest;
  return { start, result, base, tablespaces, backupManifest, backupManifestSha256, dataBytes: totalOf(start) };
}

function totalOf({ tablespaces, dataDirectoryBytes = 0n }: BackupStart): bigint {
  return tablespaces.reduce((sum, { sizeBytes = 0n }) => sum + sizeBytes, dataDirectoryBytes);
}

/**
 * Takes the archives by one BASE_BACKUP straight into the repository, compressed by the server where it can. `onStart`
 * is waited for before the first byte. Fails as uploadManifest, baseBackup and the storage do, and with BACKUP_CHECKSUM_FAILED unless
 * that was accepted beforehand.
 */
export async function storeArchives(
  prepared: PreparedBackup,
  replication: ReplicationConnection,
  onStart: (start: BackupStart) => Promise<void>,
): Promise<StoredArchives> {
  const { options, endpoint, request } = prepared;
  const { isLocal } = prepared.facts;
  const ways = compressionsToTry(options, { isLocal, cores: availableParallelism() });
  // The server remembers it for as long as the connection lasts.
  if (prepared.parent) await replication.uploadManifest(prepared.parent.backupManifest());
  for (const [index, way] of ways.entries()) {
    try {
      const stored = await takeArchives(prepared, replication, way, onStart);
      const { result } = stored;
      if (result.checksumFailures > 0) {
        const failure = toChecksumFailure(result, endpoint);
        if (!options.given.acceptCorrupt) throw failure;
        request.log(`warning: ${failure.message}; accepted as asked for`);
      }
      return stored;
    } catch (error) {
      // Nothing was sent yet.
      if (!isFailure(error, "SERVER_COMPRESSION_MISSING") || index + 1 === ways.length) throw error;
      request.log(`${error.message}; ${ways[index + 1] ? "asking for it without threads" : "this host compresses"}`);
    }
  }
  throw new Error("a codec without any way to it");
}
