// One thing: a physical backup from its command to its manifest; what each step does is in a file of its own.
import { Readable } from "node:stream";
import { create } from "@bufbuild/protobuf";
import type { BackupPhysicalResult } from "@coppice/proto/gen/coppice/agent/v1/backup_physical";
import { IncrementalMethod } from "@coppice/proto/gen/coppice/common/v1/base_backup_options";
import { WorkDoneSchema } from "@coppice/proto/gen/coppice/common/v1/progress";
import {
  type PhysicalContent,
  PhysicalContentSchema,
  type StoredConfigFile,
  StoredConfigFileSchema,
} from "@coppice/proto/gen/coppice/repository/v1/physical_content";
import type { StoredStream } from "@coppice/proto/gen/coppice/repository/v1/stored_object";
import { isFailure } from "@coppice/proto/kit/failure";
import { linkSignals } from "@coppice/proto/kit/race";
import { formatLsn } from "@coppice/proto/kit/wal/lsn";
import { majorOf } from "../../postgres/majors.ts";
import type { BackupStart } from "../../postgres/replication/base-backup.ts";
import { openReplication, type ReplicationConnection } from "../../postgres/replication/open-replication.ts";
import { timeAfter } from "../../postgres/server-clock.ts";
import { clearAway } from "../../repository/leavings/clear-away.ts";
import { type StoredArchives, storeArchives } from "./archives.ts";
import { awaitWal } from "./wal/await-wal.ts";
import { commitBackup } from "./commit-backup.ts";
import { openEmbeddedWal } from "./wal/embedded-wal.ts";
import type { EndProof } from "./wal/end-proof.ts";
import { standbyDigest } from "./wal/served-digest.ts";
import { takeIncrement } from "./increment/take-increment.ts";
import { openKeeping } from "./parent/kept-manifest.ts";
import { type BackupRequest, prepareBackup, type PreparedBackup } from "./prepare-backup.ts";
import { formatPhysicalRecipe } from "./recipe.ts";
import { requireSameServer, requireTimeline } from "./require-same-server.ts";
import { requireStandby } from "./require-standby.ts";
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
  /** Of a backup with its WAL in it. */
  readonly wal?: StoredStream;
  /** Of one that leaves it to the archive. */
  readonly archivedWal?: readonly StoredStream[];
  /** When the server had come to its end, by its clock. */
  readonly endTime: Date;
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

/** The archives of a server that stays what it is meanwhile; `onStart` is waited for before the first byte. */
async function storeOnTimeline(
  prepared: PreparedBackup,
  replication: ReplicationConnection,
  onStart: (start: BackupStart) => Promise<void>,
): Promise<Pick<StoredBackup, "prepared" | "archives">> {
  const { endpoint, facts, request } = prepared;
  await requireSameServer(replication, prepared);
  const stored = await storeOrFull(prepared, (way) =>
    storeArchives(way, replication, async (start) => {
      requireTimeline(prepared.timeline, start.timeline);
      await onStart(start);
    }),
  ).catch(async (error: unknown) => {
    if (facts.inRecovery) await requireStandby(endpoint, error, request.signal);
    throw error;
  });
  requireTimeline(stored.archives.start.timeline, stored.archives.result.timeline);
  return stored;
}

async function storeWithoutWal(prepared: PreparedBackup): Promise<Pick<StoredBackup, "prepared" | "archives">> {
  await using replication = await openReplication(prepared.endpoint, { signal: prepared.request.signal });
  return await storeOnTimeline(prepared, replication, async () => {});
}

const endTimeOf = ({ clock, endpoint, request }: PreparedBackup) => timeAfter(clock, endpoint, request.signal);

/** A standby writes no record at the end: its WAL is known by its bytes, which it surely has still when it has just ended. */
async function endOf(prepared: PreparedBackup, { start, result: { stopLsn } }: StoredArchives): Promise<EndProof> {
  if (!prepared.facts.inRecovery) return { is: "backupEnd", startLsn: start.lsn };
  return { is: "bytes", sha256: await standbyDigest(prepared, { timeline: start.timeline, endLsn: stopLsn }) };
}

/** The archives, and when the server has ended its part, the proof that their WAL is in the repository's archive. */
async function storeAndAwaitWal(prepared: PreparedBackup): Promise<StoredBackup> {
  const { prepared: taken, archives } = await storeWithoutWal(prepared);
  const endTime = await endTimeOf(prepared);
  const { start, result, dataBytes: doneBytes } = archives;
  const archivedWal = await awaitWal(prepared, {
    timeline: start.timeline,
    startLsn: start.lsn,
    stopLsn: result.stopLsn,
    doneBytes,
    end: await endOf(taken, archives),
  });
  return { prepared: taken, archives, archivedWal, endTime };
}

/** Archives and WAL side by side: each fails with what ended it first, and neither goes on without the other. */
async function storeWithWal(prepared: PreparedBackup): Promise<StoredBackup> {
  const { request, endpoint } = prepared;
  await using wal = await openEmbeddedWal(prepared);
  using both = linkSignals(request.signal, wal.lost);
  const inBoth = { ...prepared, request: { ...request, signal: both.signal } };
  await using replication = await openReplication(endpoint, { signal: both.signal });
  const { prepared: taken, archives } = await storeOnTimeline(inBoth, replication, ({ lsn, timeline }) =>
    wal.start(lsn, timeline),
  );
  request.onProgress(
    create(WorkDoneSchema, { phase: "waiting for WAL", doneBytes: archives.dataBytes, totalBytes: archives.dataBytes }),
  );
  const stored = await wal.finish(archives.result.stopLsn);
  return { prepared: { ...taken, request }, archives, wal: stored, endTime: await endTimeOf(prepared) };
}

function describe(
  { options, facts, server, parent, fullReason }: PreparedBackup,
  { start, result, base, tablespaces, backupManifest, backupManifestSha256, dataBytes }: StoredArchives,
  {
    wal,
    archivedWal = [],
    configFiles,
  }: Pick<StoredBackup, "wal" | "archivedWal"> & { configFiles: StoredConfigFile[] },
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
    hintsLogged: server.logsHints,
    fromStandby: facts.inRecovery,
    corruptPages: result.checksumFailures > 0,
    walEmbedded: wal !== undefined,
    dataBytes,
    requiredSettings: { ...server.requiredSettings },
    configFiles,
    parentBackupId: parent?.backupId ?? "",
    method: parent ? IncrementalMethod.NATIVE : IncrementalMethod.UNSPECIFIED,
    fullReason,
    options: options.given,
    dataDirectory: server.dataDirectory,
    bootstrapRole: server.bootstrapRole,
    maintenanceDatabase: server.database,
    ...(wal ? { wal } : {}),
    archivedWal: [...archivedWal],
  });
}

async function takeBackup(given: PreparedBackup): Promise<BackupPhysicalResult> {
  const { request, address, facts, recipients, clock } = given;
  const { clusterId, backupId } = address;
  const end = { clusterId, backupId, repositoryId: address.repository?.repositoryId ?? "" };
  await using keeping = openKeeping(request.chainFolder, end, request.log);
  // Nothing older can be built on by a server's blocks.
  const prepared = given.server.summarizesWal === undefined ? given : { ...given, keeping };
  const configFiles = await storeConfigFiles(prepared);
  const isEmbedded = prepared.options.given.walEmbedded;
  const { prepared: taken, archives, endTime, ...wal } = await (isEmbedded ? storeWithWal : storeAndAwaitWal)(prepared);
  const { parent } = taken;
  const physical = describe(taken, archives, { ...wal, configFiles });
  const recipe = formatPhysicalRecipe({
    clusterName: request.command.clusterName,
    backupId,
    startTime: clock.time,
    major: majorOf(facts.serverVersionNum),
    recipients,
    physical,
    systemIdentifier: facts.systemIdentifier,
    parentFolder: parent?.folder,
  });
  const features = [
    ...(recipients.length > 0 ? ["age"] : []),
    ...(isEmbedded ? [] : ["archived-wal"]),
    ...(isEmbedded ? ["embedded-wal"] : []),
    ...(parent ? ["incremental"] : []),
    "physical",
  ];
  const committed = await commitBackup(prepared, { physical, features, recipe, endTime });
  await keeping.keep();
  return committed;
}

/**
 * Takes a physical backup of a cluster into a repository: preflight before a byte is written, the archives, all WAL that
 * they need, the manifest last; of a WAL increment, only its WAL. An incremental that is asked for and cannot be becomes a
 * full, and says why. Whatever fails, what was stored is removed again. Fails as connections, BASE_BACKUP and the storage
 * do, with CLUSTER_CHANGED, TIMELINE_CHANGED, BACKUP_CHECKSUM_FAILED, or the signal's reason.
 */
export async function backupPhysical(request: BackupRequest): Promise<BackupPhysicalResult> {
  const prepared = await prepareBackup(request);
  try {
    return await (prepared.walParent ? takeIncrement(prepared, prepared.walParent) : takeBackup(prepared));
  } catch (error) {
    const { storage, operationId, onLeaving } = request;
    await clearAway(storage, { prefix: prepared.prefix, operationId, onLeaving });
    throw error;
  }
}
