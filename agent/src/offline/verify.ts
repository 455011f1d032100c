import type { BackupManifest } from "@coppice/proto/gen/coppice/repository/v1/manifest";
import { isId } from "@coppice/proto/kit/id";
import { Failure, fail } from "@coppice/proto/kit/failure";
import { formatSize } from "@coppice/proto/kit/size";
import { openContentCheck } from "../logical/verify-content.ts";
import { verifyChain } from "../physical/verify/verify-chain.ts";
import { matchIdentities } from "../pipeline/age-identity.ts";
import { unreadReason } from "../repository/verify.ts";
import type { Storage } from "../storage/storage.ts";
import {
  findCluster,
  type FoundBackup,
  type FoundRepository,
  isPhysical,
  readRepository,
  type Unreadable,
} from "./catalog.ts";
import { formatTime } from "./listing.ts";
import { requireIdentity } from "./require-identity.ts";
import { openPlace, type PlaceOptions } from "./place/place.ts";
import { openProgress, type Progress } from "./progress.ts";
import { readTextFile } from "@coppice/proto/kit/read-text-file";
import { showName } from "./show-name.ts";
import { verifyArchives } from "./verify-archives.ts";

/** What is verified, and how. */
export interface VerifyOptions extends PlaceOptions {
  /** Name or id of a cluster, or id of a backup; everything without it. */
  readonly only: string | undefined;
  readonly content?: boolean;
  /** Archived WAL too. */
  readonly wal?: boolean;
  readonly identity?: string;
}

interface Wanted {
  readonly backups: readonly FoundBackup[];
  readonly unreadable: readonly Unreadable[];
}

/** Fails with CLUSTER_NOT_FOUND, CLUSTER_AMBIGUOUS or BACKUP_NOT_FOUND. */
function choose(repository: FoundRepository, only: string | undefined): Wanted {
  const { clusters, unreadable, name } = repository;
  const all = clusters.flatMap(({ backups }) => backups);
  if (only === undefined) {
    if (all.length + unreadable.length === 0)
      fail("BACKUP_NOT_FOUND", `${name} holds no backup`, { hint: "name another repository" });
    return { backups: all, unreadable };
  }
  if (isId(only, "bkp")) {
    const backups = all.filter(({ address }) => address.backupId === only);
    const broken = unreadable.filter(({ key }) => key.includes(`_${only}/`));
    if (backups.length + broken.length === 0)
      fail("BACKUP_NOT_FOUND", `${name} holds no backup ${only}`, { hint: "coppice-agent ls" });
    return { backups, unreadable: broken };
  }
  const { id, backups } = findCluster(repository, only);
  const broken = unreadable.filter(({ clusterId }) => clusterId === id);
  if (backups.length + broken.length === 0) fail("BACKUP_NOT_FOUND", `${only} has no backup in ${name}`);
  return { backups, unreadable: broken };
}

interface Checking {
  readonly storage: Storage;
  readonly progress: Progress;
  readonly content: boolean;
  readonly identities: string | undefined;
  readonly parentsOf: (backup: FoundBackup) => Parents;
  readonly signal: AbortSignal;
}

/** What a backup builds on. */
interface Parents {
  /** To be read before it, the full one first; none where each is verified by itself. */
  readonly parents: readonly FoundBackup[];
  /** The last of them, where each is verified by itself. */
  readonly parent?: BackupManifest | undefined;
  /** What of it is not there. */
  readonly missing: Failure | undefined;
}

/** Finds what a backup builds on among those of its cluster. */
function findParents(backup: FoundBackup, all: readonly FoundBackup[]): Parents {
  const parents: FoundBackup[] = [];
  for (let one: FoundBackup = backup; ;) {
    const { content } = one.manifest;
    const id = content.case === "physical" ? content.value.parentBackupId : "";
    if (id === "") return { parents, missing: undefined };
    const parent = all.find(({ address }) => address.backupId === id);
    if (!parent || parents.includes(parent)) {
      const message = `it builds on ${id}, which cannot be read here: nothing can be restored from it`;
      return { parents, missing: new Failure("BACKUP_CHAIN_BROKEN", message) };
    }
    parents.unshift(parent);
    one = parent;
  }
}

/** Verifies one backup and prints what came of it; gives its failure. */
async function verifyOne(backup: FoundBackup, checking: Checking): Promise<Failure | undefined> {
  const { storage, progress, content, identities, signal, parentsOf } = checking;
  const { parents, parent, missing } = parentsOf(backup);
  const { result, failure: damage } = await verifyChain({
    addresses: [...parents, backup].map(({ address }) => address),
    parent,
    withStorage: (_address, work) => work(storage),
    ...(content && {
      content: {
        identitiesOf: () => identities,
        openOther: (manifest, own) => openContentCheck(manifest, { identities: own, signal }),
      },
    }),
    signal,
    onProgress: progress.update,
  });
  const failure = damage ?? missing;
  progress[Symbol.dispose]();
  const { backupId } = backup.address;
  const of = `${showName(backup.manifest.clusterName)}, ${formatTime(backup.startTime)}`;
  if (!failure) {
    const read = `${result.objects} objects, ${formatSize(result.bytes)}`;
    const how = content ? "every digest matches, all of it can be decoded" : "every digest matches";
    const chain = parents.length === 0 ? "" : `, with the ${parents.length} that it builds on`;
    const lack = backup.manifest.complete ? "" : "; it is incomplete";
    process.stdout.write(`✓ ${backupId}  ${of}  ${read}: ${how}${chain}${lack}\n`);
    return undefined;
  }
  const lines = result.problems.map(({ affects, message }) => `    ${showName(affects)}: ${message}`);
  if (missing) lines.push(`    ${missing.message}`);
  process.stdout.write(
    `✗ ${backupId}  ${of}  ${lines.length === 1 ? "1 problem" : `${lines.length} problems`}\n${lines.join("\n")}\n`,
  );
  return failure;
}

/** Each kind of backup has a command of its own. */
function restoreCommands(all: readonly FoundBackup[]): string {
  const dumps = all.some((backup) => !isPhysical(backup)) ? ["a dump: coppice-agent restore … --backup ID"] : [];
  const physicals = all.some(isPhysical) ? ["a physical one: coppice-agent restore-directory … --backup ID"] : [];
  return [...dumps, ...physicals].join(", ") || "look into another copy";
}

/**
 * Reads every chosen backup again and prints what is wrong; with `content` it is decrypted and parsed too. Fails with
 * IDENTITY_MISSING or IDENTITY_WRONG before anything is fetched, with the reason of the first problem at the end, or as
 * the storage does.
 */
export async function verifyRepository(options: VerifyOptions, signal: AbortSignal): Promise<number> {
  const identities = options.identity === undefined ? undefined : await readTextFile(options.identity, "identity");
  const content = options.content ?? false;
  await using storage = await openPlace(options, signal);
  const repository = await readRepository(storage, signal);
  const { backups, unreadable } = choose(repository, options.only);
  const all = repository.clusters.flatMap((cluster) => cluster.backups);
  const parentsOf = (backup: FoundBackup): Parents => {
    const found = findParents(backup, all);
    // Where they are verified by themselves, once is enough.
    const isVerified = found.parents.every((parent) => backups.includes(parent));
    return isVerified ? { missing: found.missing, parents: [], parent: found.parents.at(-1)?.manifest } : found;
  };
  if (content) for (const { manifest } of backups) matchIdentities(manifest.recipients, identities);
  else if (options.wal && identities !== undefined) requireIdentity(backups.filter(isPhysical), identities);
  using progress = openProgress(process.stderr);
  const failures: Failure[] = [];
  for (const { key, message, reason } of unreadable) {
    process.stdout.write(`✗ ${showName(key)}  ${message}\n`);
    failures.push(new Failure(reason === unreadReason ? unreadReason : "MANIFEST_UNREADABLE", message));
  }
  for (const backup of backups) {
    const failure = await verifyOne(backup, { storage, progress, content, identities, signal, parentsOf });
    if (failure) failures.push(failure);
  }
  let count = backups.length + unreadable.length;
  if (options.wal) {
    const clusters = repository.clusters.filter((cluster) => cluster.backups.some((one) => backups.includes(one)));
    for (const cluster of clusters) {
      const found = await verifyArchives(cluster, { storage, progress, identities, signal });
      count += found.archives;
      failures.push(...found.failures);
    }
  }
  const [first] = failures;
  if (!first) return 0;
  const damaged = failures.filter(({ reason }) => reason !== unreadReason);
  const [worst] = damaged;
  if (!worst) {
    const message = `${failures.length} of ${count} could not be read in ${storage.name}, which says nothing against them`;
    throw new Failure(first.reason, message, { hint: first.hint, metadata: first.metadata });
  }
  const more = failures.length === damaged.length ? "" : `, and ${failures.length - damaged.length} could not be read`;
  throw new Failure(worst.reason, `${damaged.length} of ${count} are damaged in ${storage.name}${more}`, {
    hint: `restore from one that is sound: ${restoreCommands(all)}; what is named is lost in this copy`,
    metadata: worst.metadata,
  });
}
