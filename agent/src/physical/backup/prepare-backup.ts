import { create } from "@bufbuild/protobuf";
import type { BackupPhysicalCommand } from "@coppice/proto/gen/coppice/agent/v1/backup_physical";
import type { ClusterFacts } from "@coppice/proto/gen/coppice/agent/v1/check_cluster";
import type { BackupAddress } from "@coppice/proto/gen/coppice/agent/v1/repository_target";
import { BaseBackupOptionsSchema, IncrementalMethod } from "@coppice/proto/gen/coppice/common/v1/base_backup_options";
import { type WorkDone, WorkDoneSchema } from "@coppice/proto/gen/coppice/common/v1/progress";
import { fail } from "@coppice/proto/kit/failure";
import { formatSize } from "@coppice/proto/kit/size";
import { type CodecTool, readCodecTools } from "../../pipeline/codec-tools.ts";
import { openLook } from "../../postgres/connect.ts";
import { type ClientFiles, formatAddress, type ResolvedEndpoint, resolveEndpoint } from "../../postgres/endpoint.ts";
import { readFacts, requireRole } from "../../postgres/facts.ts";
import { majorOf, requireSupported } from "../../postgres/majors.ts";
import { openReplication, type SystemIdentity } from "../../postgres/replication/open-replication.ts";
import { readServerClock, type ServerClock } from "../../postgres/server-clock.ts";
import { claimCluster } from "../../repository/claim-cluster.ts";
import { backupPrefix, clusterFileKey } from "../../repository/layout.ts";
import { requireArchiveBehind } from "../../repository/wal/require-archive-behind.ts";
import { lookIfAllowed, unseen, unseenWarning } from "../../storage/look-if-allowed.ts";
import type { Storage } from "../../storage/storage.ts";
import { chooseParent, type IncrementalParent } from "./parent/choose-parent.ts";
import { chooseWalParent, type WalParent } from "./parent/choose-wal-parent.ts";
import type { Keeping } from "./parent/kept-manifest.ts";
import type { ParentRequest, SeenServer } from "./parent/read-parent.ts";
import { type ConfigFile, readConfigFiles } from "./config-files.ts";
import { type ResolvedBackupOptions, resolveBackupOptions } from "./options.ts";
import { requireSystem } from "./require-same-server.ts";
import { readServerFacts, type ServerFacts } from "./server-facts.ts";
import { requireArchivedBefore } from "./wal/require-archived-before.ts";

/** What a physical backup is taken with. */
export interface BackupRequest {
  readonly command: BackupPhysicalCommand;
  readonly operationId: string;
  readonly agentVersion: string;
  /** The opened password, where the connection has one. */
  readonly password: string | undefined;
  readonly files: ClientFiles;
  readonly storage: Storage;
  /** What an incremental is to build on; undefined for a full, and where there is nothing. */
  readonly parent: ParentRequest | undefined;
  /** Folder where clear manifests are kept for incrementals to come. */
  readonly chainFolder: string;
  /** When this host last found a server to be set back, or to be a copy, as it archives its WAL; undefined when never. */
  readonly setBackTime: (of: { clusterId: string; systemIdentifier: string }) => Promise<Date | undefined>;
  readonly signal: AbortSignal;
  readonly onProgress: (work: WorkDone) => void;
  readonly log: (line: string) => void;
  /** Told what a failed backup could not clear away. */
  readonly onLeaving: (leaving: string) => void;
}

/** A backup that can begin: what was seen and decided before it. */
export interface PreparedBackup {
  readonly request: BackupRequest;
  readonly address: BackupAddress;
  readonly prefix: string;
  readonly options: ResolvedBackupOptions;
  readonly recipients: readonly string[];
  readonly endpoint: ResolvedEndpoint;
  readonly facts: ClusterFacts;
  readonly server: ServerFacts;
  /** The one that the server was on when it was looked at. */
  readonly timeline: number;
  readonly configFiles: readonly ConfigFile[];
  readonly codecTools: readonly CodecTool[];
  /** The server's clock when the work on it began. */
  readonly clock: ServerClock;
  /** What an incremental of blocks builds on; undefined for anything else. */
  readonly parent: IncrementalParent | undefined;
  /** Where the server's backup_manifest is kept, where incrementals of blocks can build on it. */
  readonly keeping?: Keeping;
  /** What a WAL increment goes on from; undefined for anything else. */
  readonly walParent: WalParent | undefined;
  /** Why what was asked for as an incremental becomes a full; empty otherwise. */
  readonly fullReason: string;
}

/** Below this no repository has room for a backup worth the name. */
const leastFreeBytes = 16 * 1024 * 1024;
/** Clocks that are further apart are worth a word. */
const mostApartSeconds = 60;

async function checkRoom({ storage, signal, log }: BackupRequest, { databases }: ClusterFacts): Promise<void> {
  const free = await storage.freeBytes(signal);
  if (free === undefined) return;
  const total = databases.reduce((sum, { sizeBytes }) => sum + Number(sizeBytes ?? 0n), 0);
  if (free < leastFreeBytes) fail("REPOSITORY_FULL", `the repository ${storage.name} has ${formatSize(free)} left`);
  if (free < total) log(`warning: the repository has ${formatSize(free)} left for databases of ${formatSize(total)}`);
}

/**
 * Tries the very handshake that the backup needs, while nothing is written yet. WAL that is left to the archive has to be
 * the server's own: an archive that ends behind a primary is of another life of it, one that differs from what a standby has
 * received is of another server than it follows.
 */
async function requireReplication(
  endpoint: ResolvedEndpoint,
  { systemIdentifier, inRecovery }: ClusterFacts,
  {
    request: { command, storage, signal },
    options,
    segmentBytes,
  }: { request: BackupRequest; options: ResolvedBackupOptions; segmentBytes: bigint },
): Promise<SystemIdentity> {
  await using replication = await openReplication(endpoint, { signal });
  const seen = await replication.identify();
  requireSystem(endpoint, seen, systemIdentifier);
  if (options.given.walEmbedded) return seen;
  const place = { clusterId: command.backup?.clusterId ?? "", systemIdentifier };
  if (inRecovery) {
    // It may be behind what its primary has archived.
    const { clusterName } = command;
    const waitMs = options.walWaitMs;
    await requireArchivedBefore(storage, replication, { place, clusterName, seen, segmentBytes, waitMs, signal });
    return seen;
  }
  const { timeline } = seen;
  const serverLsn = async () => (await replication.identify()).lsn;
  await requireArchiveBehind(storage, { place, timeline, segmentBytes, serverLsn, signal });
  return seen;
}

/** What is asked for as an incremental, in its way, or why it is a full. */
async function chooseWay(
  { command, parent, chainFolder }: BackupRequest,
  { isByWal, seen }: { isByWal: boolean; seen: SeenServer },
): Promise<Pick<PreparedBackup, "parent" | "walParent" | "fullReason">> {
  const none = { parent: undefined, walParent: undefined, fullReason: "" };
  if (!command.incremental) return none;
  if (command.fullReason !== "") return { ...none, fullReason: command.fullReason };
  return { ...none, ...(await (isByWal ? chooseWalParent(parent, seen) : chooseParent(parent, seen, chainFolder))) };
}

function warnOfClocks({ time }: ServerClock, log: (line: string) => void): void {
  const seconds = Math.round((Date.now() - time.getTime()) / 1000);
  if (Math.abs(seconds) < mostApartSeconds) return;
  const where = seconds > 0 ? "ahead of" : "behind";
  log(`warning: this host's clock is ${Math.abs(seconds)} s ${where} the server's, whose time is that of the backup`);
}

/** All WAL has to be somewhere: in the backup, or in an archive beside it, where RECOVER.txt can name it. */
function requireWalPlace(
  { clusterName, walRepository, backup }: BackupPhysicalCommand,
  { given }: ResolvedBackupOptions,
): void {
  if (given.walEmbedded) return;
  if (walRepository === undefined)
    fail("WAL_NOT_ARCHIVED", `WAL of cluster ${clusterName} is not archived, and a physical backup needs it`);
  if (walRepository.repositoryId !== backup?.repository?.repositoryId)
    fail("NOT_SUPPORTED", `WAL of cluster ${clusterName} is archived in another repository than the backup's`, {
      hint: `back up into ${walRepository.name}, or put the WAL into the backup itself: --wal embedded`,
    });
}

/** A backup that leaves its WAL to the archive counts only once it was read there, which shows now and not after hours. */
async function requireReadableArchive({ storage, signal }: BackupRequest, clusterId: string): Promise<void> {
  const seen = await lookIfAllowed(storage, () => storage.stat(clusterFileKey(clusterId), signal));
  if (seen !== unseen) return;
  fail(
    "REPOSITORY_NOT_READABLE",
    `the WAL of the backup has to be read in ${storage.name}, where s3:GetObject is refused`,
    {
      hint: "allow s3:GetObject and s3:ListBucket to the key for reading, or put the WAL into the backup itself: --wal embedded",
    },
  );
}

/**
 * Looks at everything that can be seen to be wrong before a byte of the backup is written. Fails as connections and the
 * storage do, with REPOSITORY_NOT_READABLE where WAL is left to an archive that may not be read, with WAL_FOREIGN where that
 * is another server's, with CLUSTER_CHANGED, INSTANCE_ROLE_CHANGED, SERVER_UNSUPPORTED, REPOSITORY_FULL, WAL_NOT_ARCHIVED or
 * NOT_SUPPORTED.
 */
export async function prepareBackup(request: BackupRequest): Promise<PreparedBackup> {
  const { command, signal, storage, log } = request;
  const address = command.backup ?? fail("INVALID_FIELD", "the command names no backup");
  const options = resolveBackupOptions(command.options ?? create(BaseBackupOptionsSchema), address.backupId);
  request.onProgress(create(WorkDoneSchema, { phase: "preflight" }));
  const isByWal = command.incremental && options.given.method === IncrementalMethod.WAL;
  if (isByWal && options.given.walEmbedded)
    fail("INVALID_FIELD", "an incremental by archived WAL leaves its WAL in the archive");
  requireWalPlace(command, options);
  if (!options.given.walEmbedded) await requireReadableArchive(request, address.clusterId);

  const endpoint = await resolveEndpoint(command.connection?.endpoint, request.password, request.files);
  await using connection = await openLook(endpoint, { signal });
  const clock = await readServerClock(connection);
  warnOfClocks(clock, log);
  const facts = await readFacts(connection);
  requireSupported(facts.serverVersionNum);
  const expected = command.expectedSystemIdentifier;
  if (expected && expected !== facts.systemIdentifier)
    fail(
      "CLUSTER_CHANGED",
      `the cluster at ${formatAddress(endpoint)} has the system identifier ${facts.systemIdentifier} instead of ${expected}`,
    );
  requireRole(command.connection, endpoint, facts);
  const server = await readServerFacts(connection);
  const configFiles = await readConfigFiles(connection, server.dataDirectory);
  const segmentBytes = server.walSegmentBytes;
  const { timeline, lsn } = await requireReplication(endpoint, facts, { request, options, segmentBytes });
  const { clusterId } = address;
  const { systemIdentifier } = facts;
  const setBackTime = await request.setBackTime({ clusterId, systemIdentifier });
  const major = majorOf(facts.serverVersionNum);
  if (command.incremental && !isByWal && server.summarizesWal === undefined)
    fail("NOT_SUPPORTED", `PostgreSQL ${major} takes no incremental backups of blocks; 17 and newer do`, {
      hint: "take it by archived WAL: --method wal, or a full one: --kind full",
    });
  if (isByWal && facts.inRecovery)
    fail("NOT_SUPPORTED", "a standby can mark no restore point, which an incremental by archived WAL ends with", {
      hint: "take a full one of it: --kind full; or the incremental of its primary",
    });
  const chosen = await chooseWay(request, { isByWal, seen: { facts, server, timeline, lsn, setBackTime, signal } });
  if (chosen.fullReason) log(`a full backup instead: ${chosen.fullReason}`);
  const recipients = address.repository?.recipients ?? [];
  const codecTools = await readCodecTools({ codec: options.codec, recipients }, signal);
  await checkRoom(request, facts);
  const cluster = { clusterId, name: command.clusterName, systemIdentifier, major, seenTime: clock.time };
  const { clusterFileExpected: isExpected, knownClusters } = command;
  const isSeen = await claimCluster(storage, { ...cluster, isExpected, knownClusters }, signal);
  if (!isSeen) log(unseenWarning(storage));
  log(`PostgreSQL ${major}${facts.inRecovery ? ", a standby" : ""}`);
  if (server.dataDirectory === "")
    log("warning: the role may not see where the server's configuration is: GRANT pg_read_all_settings to it");
  for (const { path, problem } of configFiles) if (problem) log(`warning: ${path} could not be read: ${problem}`);
  return {
    request,
    address,
    prefix: backupPrefix({ clusterId, folder: address.folder }),
    options,
    recipients,
    endpoint,
    facts,
    server,
    timeline,
    configFiles,
    codecTools,
    clock,
    ...chosen,
  };
}
