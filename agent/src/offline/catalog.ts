// One thing: what a repository says of itself, read without a catalog, and what is chosen from it.
import { create } from "@bufbuild/protobuf";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { type BackupAddress, BackupAddressSchema } from "@coppice/proto/gen/coppice/agent/v1/repository_target";
import type { ClusterFile } from "@coppice/proto/gen/coppice/repository/v1/cluster_file";
import type { BackupManifest } from "@coppice/proto/gen/coppice/repository/v1/manifest";
import { isWholeCluster } from "@coppice/proto/kit/repository/default-set";
import { type Ordered, orderBackups } from "@coppice/proto/kit/repository/order-backups";
import { parseLsn } from "@coppice/proto/kit/wal/lsn";
import { Failure, fail, isFailure } from "@coppice/proto/kit/failure";
import { readClusterFile } from "../repository/cluster-file.ts";
import { readManifest } from "../repository/get.ts";
import { backupPrefix, clusterFileKey, manifestKey } from "../repository/layout.ts";
import { manifestObjects } from "../repository/manifest-objects.ts";
import { quoteShell } from "../repository/recipe-text.ts";
import { type SurveyedBackup, surveyRepository } from "../repository/survey/survey.ts";
import type { Storage } from "../storage/storage.ts";

/** A committed backup of a repository. */
export interface FoundBackup {
  /** Without its repository, with its manifest's digest. */
  readonly address: BackupAddress;
  readonly manifest: BackupManifest;
  readonly startTime: Date;
  readonly storedBytes: bigint;
  /** Whether it is complete and leaves nothing out: the newest such one is the last good one of its kind. */
  readonly isGood: boolean;
  /** Where it is in the order of physical ones; undefined for a dump. */
  readonly place: Ordered | undefined;
}

/** A cluster of a repository. */
export interface FoundCluster {
  /** cls_… */
  readonly id: string;
  readonly name: string;
  /** Newest first. */
  readonly backups: readonly FoundBackup[];
  /** Of the dumps. */
  readonly lastGood: FoundBackup | undefined;
  /** Of the physical ones, with all that it builds on. */
  readonly lastGoodPhysical: FoundBackup | undefined;
}

/** What could not be read, and why. */
export interface Unreadable {
  readonly clusterId: string;
  readonly key: string;
  readonly reason: string;
  readonly message: string;
}

/** Everything that a repository says of itself. */
export interface FoundRepository {
  /** Its address, for messages. */
  readonly name: string;
  readonly clusters: readonly FoundCluster[];
  readonly unreadable: readonly Unreadable[];
  /** Folders of backups that were never finished. */
  readonly unfinished: number;
  /** Objects that no Coppice has made. */
  readonly foreignObjects: number;
  /** Folders directly in it that are repositories by themselves. */
  readonly within: readonly string[];
}

const readsAtOnce = 8;

/**
 * Lists a repository and reads what its clusters and manifests say. What cannot be read is named in the result. Fails
 * with REPOSITORY_UNREACHABLE, or as the storage does where it cannot be listed.
 */
export async function readRepository(storage: Storage, signal: AbortSignal): Promise<FoundRepository> {
  const survey = await surveyRepository(storage, signal);
  const unreadable: Unreadable[] = [];
  const attempt = async <T>(clusterId: string, key: string, read: () => Promise<T>): Promise<T | undefined> => {
    try {
      return await read();
    } catch (error) {
      signal.throwIfAborted();
      if (!isFailure(error) || error.reason === "REPOSITORY_UNREACHABLE") throw error;
      unreadable.push({ clusterId, key, reason: error.reason, message: error.message });
      return undefined;
    }
  };
  const files = await eachOf(survey.clusterIds, (id) =>
    attempt(id, clusterFileKey(id), () => readClusterFile(storage, id, signal)),
  );
  const committed = survey.backups.filter(({ isCommitted }) => isCommitted);
  const backups = await eachOf(committed, (backup) => {
    const key = manifestKey(backupPrefix(backup));
    return attempt(backup.clusterId, key, () => readBackup(storage, backup, signal));
  });
  const known = new Map(files.flatMap((file) => (file ? [[file.clusterId, file] as const] : [])));
  const ids = new Set([...survey.clusterIds, ...committed.map(({ clusterId }) => clusterId)]);
  return {
    name: storage.name,
    clusters: [...ids].map((id) => toCluster(id, known.get(id), backups)).toSorted(byName),
    unreadable,
    unfinished: survey.backups.filter(({ isCommitted, objects }) => !isCommitted && objects.length > 0).length,
    foreignObjects: survey.foreign.objects,
    within: survey.within,
  };
}

/** Some at a time, so that a distant store is not waited for once a manifest. */
async function eachOf<In, Out>(items: readonly In[], work: (item: In) => Promise<Out>): Promise<Out[]> {
  const done: Out[] = [];
  const queue = items.entries();
  const worker = async () => {
    for (const [index, item] of queue) done[index] = await work(item);
  };
  await Promise.all(Array.from({ length: readsAtOnce }, worker));
  return done;
}

async function readBackup(storage: Storage, backup: SurveyedBackup, signal: AbortSignal): Promise<FoundBackup> {
  const { clusterId, folder } = backup;
  const backupId = /bkp_[0-9a-z]+$/.exec(folder)?.[0] ?? "";
  const address = create(BackupAddressSchema, { clusterId, folder, backupId });
  const { manifest, sha256 } = await readManifest(storage, address, signal);
  address.manifestSha256 = sha256;
  const dump = manifest.content.case === "dump" ? manifest.content.value : undefined;
  return {
    address,
    manifest,
    startTime: new Date(manifest.startTime ? timestampMs(manifest.startTime) : 0),
    storedBytes: manifestObjects(manifest).reduce((sum, { object }) => sum + object.sizeBytes, 0n),
    isGood: manifest.complete && (dump === undefined || isWholeCluster(dump.options)),
    place: placeOf(manifest, backup),
  };
}

function placeOf({ content, systemIdentifier, endTime }: BackupManifest, of: SurveyedBackup): Ordered | undefined {
  if (content.case !== "physical") return undefined;
  const { timeline, startLsn, stopLsn } = content.value;
  return {
    id: of.folder,
    clusterId: of.clusterId,
    systemIdentifier,
    timeline,
    startLsn: parseLsn(startLsn),
    stopLsn: parseLsn(stopLsn),
    endTime: new Date(endTime ? timestampMs(endTime) : 0),
  };
}

function toCluster(id: string, file: ClusterFile | undefined, all: readonly (FoundBackup | undefined)[]): FoundCluster {
  const backups = newestFirst(
    all.filter((backup) => backup?.address.clusterId === id).filter((backup) => backup !== undefined),
  );
  const name = file?.name || backups[0]?.manifest.clusterName || id;
  return {
    id,
    name,
    backups,
    lastGood: backups.find(({ isGood, manifest }) => isGood && manifest.content.case === "dump"),
    lastGoodPhysical: backups.find((backup) => isPhysical(backup) && isChainWhole(backup, backups)),
  };
}

/** Whether it is a data directory and no dump. */
export const isPhysical = ({ manifest }: FoundBackup) => manifest.content.case === "physical";

/** Physical ones by the WAL that they begin and end with, dumps by their ids, both as those say when they were taken. */
function newestFirst(backups: readonly FoundBackup[]): FoundBackup[] {
  const placed = backups.flatMap((backup) => (backup.place ? [{ ...backup.place, backup }] : []));
  const physicals = orderBackups(placed, () => undefined).map(({ backup }) => backup);
  const dumps = backups.filter(({ place }) => !place).toSorted((one, two) => (isNewer(one, two) ? 1 : -1));
  const ordered: FoundBackup[] = [];
  for (let left = backups.length; left > 0; left--) {
    const [physical, dump] = [physicals.at(-1), dumps.at(-1)];
    const next = physical && (!dump || isNewer(physical, dump)) ? physicals.pop() : dumps.pop();
    if (next) ordered.push(next);
  }
  return ordered;
}

/** By the clock of the control plane, which made the ids. */
const isNewer = (one: FoundBackup, two: FoundBackup) => one.address.backupId > two.address.backupId;

/** Whether a backup is good, and so is every one that it builds on. */
export function isChainWhole(backup: FoundBackup, all: readonly FoundBackup[]): boolean {
  const seen = new Set<FoundBackup>();
  let part: FoundBackup | undefined = backup;
  // Once each, so that this ends whatever manifests say; which of them is older no id tells.
  while (part?.isGood && !seen.has(part)) {
    seen.add(part);
    const parentId = parentOf(part);
    if (parentId === "") return true;
    part = all.find(({ address }) => address.backupId === parentId);
  }
  return false;
}

function parentOf({ manifest: { content } }: FoundBackup): string {
  return content.case === "physical" ? content.value.parentBackupId : "";
}

function byName(one: FoundCluster, two: FoundCluster): number {
  return one.name < two.name ? -1 : one.name > two.name ? 1 : one.id < two.id ? -1 : 1;
}

/** The cluster of that name or id. Fails with CLUSTER_NOT_FOUND, or CLUSTER_AMBIGUOUS when two have the name. */
export function findCluster({ name: repository, clusters }: FoundRepository, wanted: string): FoundCluster {
  const found = clusters.filter(({ id, name }) => id === wanted || name === wanted);
  const [cluster] = found;
  if (!cluster) {
    const names = clusters.map(({ name }) => name).join(", ");
    return fail("CLUSTER_NOT_FOUND", `${repository} holds no cluster ${wanted}`, {
      hint: names === "" ? "name another repository" : `it holds ${names}; see coppice-agent ls`,
    });
  }
  if (found.length === 1) return cluster;
  return fail("CLUSTER_AMBIGUOUS", `${repository} holds ${found.length} clusters of the name ${wanted}`, {
    hint: `name one by its id: ${found.map(({ id }) => id).join(", ")}`,
  });
}

/** A dump of the cluster, the last good one when none is named. Fails with BACKUP_NOT_FOUND, and INVALID_FIELD for a physical one. */
export function findDump(
  { name, backups, lastGood, lastGoodPhysical }: FoundCluster,
  wanted: string | undefined,
): FoundBackup {
  const found = wanted === undefined ? lastGood : backups.find(({ address }) => address.backupId === wanted);
  if (found && isPhysical(found)) {
    return fail(
      "INVALID_FIELD",
      `${found.address.backupId} is a physical backup: it is restored whole, into a folder`,
      {
        hint: `${restoreWhole(name)} --backup ${found.address.backupId}`,
      },
    );
  }
  if (found) return found;
  if (wanted !== undefined)
    return fail("BACKUP_NOT_FOUND", `${name} has no backup ${wanted} that can be read`, { hint: "coppice-agent ls" });
  const partial = backups.find((backup) => !isPhysical(backup));
  const ways = [
    ...(lastGoodPhysical ? [`restore the last good physical backup: ${restoreWhole(name)}`] : []),
    ...(partial ? [`take a dump that lacks something: --backup ${partial.address.backupId}`] : []),
  ];
  return fail("BACKUP_NOT_FOUND", `${name} has no complete dump of the whole cluster`, {
    hint: ways.join("; or ") || "look into another repository",
  });
}

const restoreWhole = (cluster: string) =>
  `coppice-agent restore-directory ${quoteShell(cluster)} --repo … --into FOLDER`;

/** Key of a dump's manifest: the folders of physical backups, of which none is restored in its place, say what they are. */
const dumpManifest = /(?<!_full|_incremental)_(bkp_[0-9a-z]+)\/manifest\.json$/;

/**
 * Lets the last good backup count as the newest only where none that cannot be read may be newer. Fails with the reason
 * for which that one cannot be read.
 */
export function requireNewest({ unreadable }: FoundRepository, { id, name, lastGood }: FoundCluster): void {
  const lastId = lastGood?.address.backupId ?? "";
  for (const { clusterId, key, reason, message } of unreadable) {
    const backupId = dumpManifest.exec(key)?.[1] ?? "";
    if (clusterId !== id || backupId <= lastId) continue;
    const than = lastGood ? `, which may be newer than ${lastId} of ${lastGood.startTime.toISOString()}` : "";
    throw new Failure(reason, `${name} has a backup ${backupId} that cannot be read${than}: ${message}`, {
      hint: lastGood
        ? `if the older one is to be restored, say so: --backup ${lastId}`
        : "list what can be read with `coppice-agent ls`, and name it: --backup ID",
      metadata: { key },
    });
  }
}
