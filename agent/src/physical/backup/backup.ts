import { Readable } from "node:stream";
import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import {
  type BackupPhysicalResult,
  BackupPhysicalResultSchema,
} from "@coppice/proto/gen/coppice/agent/v1/backup_physical";
import { BackupKind } from "@coppice/proto/gen/coppice/common/v1/backup_kind";
import { IncrementalMethod } from "@coppice/proto/gen/coppice/common/v1/base_backup_options";
import { WorkDoneSchema } from "@coppice/proto/gen/coppice/common/v1/progress";
import { BackupManifestSchema } from "@coppice/proto/gen/coppice/repository/v1/manifest";
import {
  type PhysicalContent,
  PhysicalContentSchema,
  type StoredConfigFile,
  StoredConfigFileSchema,
} from "@coppice/proto/gen/coppice/repository/v1/physical_content";
import type { StoredStream } from "@coppice/proto/gen/coppice/repository/v1/stored_object";
import { Failure, isFailure } from "@coppice/proto/kit/failure";
import { linkSignals } from "@coppice/proto/kit/race";
import { formatLsn } from "@coppice/proto/kit/wal/lsn";
import { majorOf } from "../../postgres/majors.ts";
import { openReplication } from "../../postgres/replication/open-replication.ts";
import { clearAway } from "../../repository/leavings/clear-away.ts";
import { recipeName } from "../../repository/layout.ts";
import { manifestObjects } from "../../repository/manifest-objects.ts";
import { commitManifest, storeText } from "../../repository/put.ts";
import { type StoredArchives, storeArchives } from "./archives.ts";
import { openEmbeddedWal } from "./embedded-wal.ts";
import { type BackupRequest, prepareBackup, type PreparedBackup } from "./prepare-backup.ts";
import { formatPhysicalRecipe } from "./recipe.ts";
import { storeEncoded } from "./store-encoded.ts";

/** Names of objects are plain; the path itself is in the manifest. */
function configName(index: number, path: string): string {
  const name = path.split("/").at(-1) ?? "";
  return `config/${index}-${name.replaceAll(/[^0-9A-Za-z._-]/g, "_").slice(-60)}`;
}

async function storeConfigFiles(prepared: PreparedBackup): Promise<StoredConfigFile[]> {
  const { request, prefix, recipients, configFiles } = prepared;
  const { storage, signal, log } = request;
  const stored: StoredConfigFile[] = [];
  for (const [index, { path, role, content, problem }] of configFiles.entries()) {
    const file = create(StoredConfigFileSchema, { path, role, problem });
    if (content) {
      const source = Readable.from(content.length > 0 ? [content] : [], { objectMode: false });
      const plain = { codec: "none", level: 0, recipients } as const;
      file.stream = await storeEncoded(storage, {
        prefix,
        name: configName(index, path),
        source,
        ...plain,
        signal,
        log,
      });
    }
    stored.push(file);
  }
  return stored;
}

interface StoredBackup {
  readonly prepared: PreparedBackup;
  readonly archives: StoredArchives;
  readonly wal: StoredStream;
}

/** What the server refuses before it has sent a byte is taken as a full one. */
async function storeOrFull(
  prepared: PreparedBackup,
  store: (prepared: PreparedBackup) => Promise<StoredArchives>,
): Promise<Pick<StoredBackup, "prepared" | "archives">> {
  try {
    return { prepared, archives: await store(prepared) };
  } catch (error) {
    if (!prepared.parent || !isFailure(error, "INCREMENTAL_REFUSED")) throw error;
    prepared.request.log(`a full backup instead: ${error.message}`);
    const full = { ...prepared, parent: undefined, fullReason: error.message };
    return { prepared: full, archives: await store(full) };
  }
}

/** Archives and WAL side by side: each fails with what ended it first, and neither goes on without the other. */
async function storeAll(prepared: PreparedBackup): Promise<StoredBackup> {
  const { request, endpoint } = prepared;
  await using wal = await openEmbeddedWal(prepared);
  using both = linkSignals(request.signal, wal.lost);
  const inBoth = { ...prepared, request: { ...request, signal: both.signal } };
  await using replication = await openReplication(endpoint, { signal: both.signal });
  const { prepared: taken, archives } = await storeOrFull(inBoth, (way) =>
    storeArchives(way, replication, ({ lsn, timeline }) => wal.start(lsn, timeline)),
  );
  const { start, result } = archives;
  if (result.timeline !== start.timeline)
    throw new Failure(
      "TIMELINE_CHANGED",
      `the server went over from timeline ${start.timeline} to ${result.timeline} during the backup`,
    );
  request.onProgress(
    create(WorkDoneSchema, { phase: "waiting for WAL", doneBytes: archives.dataBytes, totalBytes: archives.dataBytes }),
  );
  return { prepared: { ...taken, request }, archives, wal: await wal.finish(result.stopLsn) };
}

function describe(
  { options, facts, server, parent, fullReason }: PreparedBackup,
  { start, result, base, tablespaces, backupManifest, backupManifestSha256, dataBytes }: StoredArchives,
  { wal, configFiles }: { wal: StoredStream; configFiles: StoredConfigFile[] },
): PhysicalContent {
  return create(PhysicalContentSchema, {
    base,
    tablespaces: [...tablespaces],
    backupManifest,
    backupManifestSha256,
    startLsn: formatLsn(start.lsn),
    stopLsn: formatLsn(result.stopLsn),
    timeline: start.timeline,
    walSegmentBytes: server.walSegmentBytes,
    dataChecksums: server.dataChecksums,
    fromStandby: facts.inRecovery,
    corruptPages: result.checksumFailures > 0,
    walEmbedded: true,
    dataBytes,
    requiredSettings: { ...server.requiredSettings },
    configFiles,
    parentBackupId: parent?.backupId ?? "",
    method: parent ? IncrementalMethod.NATIVE : IncrementalMethod.UNSPECIFIED,
    fullReason,
    options: options.given,
    dataDirectory: server.dataDirectory,
    wal,
  });
}

async function takeBackup(prepared: PreparedBackup): Promise<BackupPhysicalResult> {
  const { request, address, prefix, facts, recipients, startTime } = prepared;
  const { command, storage, signal } = request;
  const configFiles = await storeConfigFiles(prepared);
  const { prepared: taken, archives, wal } = await storeAll(prepared);
  const { parent } = taken;
  const physical = describe(taken, archives, { wal, configFiles });
  const recipe = formatPhysicalRecipe({
    clusterName: command.clusterName,
    backupId: address.backupId,
    startTime,
    major: majorOf(facts.serverVersionNum),
    recipients,
    physical,
    parentFolder: parent?.folder,
  });
  const recipeObject = await storeText(storage, { prefix, key: recipeName, text: recipe, signal });
  const manifest = create(BackupManifestSchema, {
    formatVersion: 1,
    requiredFeatures: [
      ...(recipients.length > 0 ? ["age"] : []),
      "embedded-wal",
      ...(parent ? ["incremental"] : []),
      "physical",
    ],
    backupId: address.backupId,
    kind: parent ? BackupKind.INCREMENTAL : BackupKind.FULL,
    clusterId: address.clusterId,
    clusterName: command.clusterName,
    systemIdentifier: facts.systemIdentifier,
    serverVersionNum: facts.serverVersionNum,
    operationId: request.operationId,
    startTime: timestampFromDate(startTime),
    endTime: timestampFromDate(new Date()),
    complete: true,
    tools: [...prepared.codecTools],
    agentVersion: request.agentVersion,
    recipe: recipeObject,
    recipients: [...recipients],
    content: { case: "physical", value: physical },
  });
  const committed = await commitManifest(storage, { prefix, manifest, signal });
  const stored = manifestObjects(manifest).reduce((sum, { object }) => sum + object.sizeBytes, 0n);
  return create(BackupPhysicalResultSchema, {
    manifest,
    manifestSha256: committed.sha256,
    storedBytes: stored + BigInt(committed.sizeBytes),
    facts,
    recipe,
  });
}

/**
 * Takes a physical backup of a cluster into a repository: preflight before a byte is written, the archives, all WAL that
 * they need, the manifest last. An incremental that is asked for and cannot be becomes a full, and says why. Whatever fails, what was stored is removed again. Fails as connections, BASE_BACKUP and
 * the storage do, with CLUSTER_CHANGED, TIMELINE_CHANGED, BACKUP_CHECKSUM_FAILED, or the signal's reason.
 */
export async function backupPhysical(request: BackupRequest): Promise<BackupPhysicalResult> {
  const prepared = await prepareBackup(request);
  try {
    return await takeBackup(prepared);
  } catch (error) {
    const { storage, operationId, onLeaving } = request;
    await clearAway(storage, { prefix: prepared.prefix, operationId, onLeaving });
    throw error;
  }
}
