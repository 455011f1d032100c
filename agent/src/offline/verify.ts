import { isId } from "@coppice/proto/kit/id";
import { Failure, fail } from "@coppice/proto/kit/failure";
import { formatSize } from "@coppice/proto/kit/size";
import { openContentCheck } from "../logical/verify-content.ts";
import { openPhysicalCheck } from "../physical/verify/open-physical-check.ts";
import { matchIdentities } from "../pipeline/age-identity.ts";
import { verifyBackup } from "../repository/verify.ts";
import type { Storage } from "../storage/storage.ts";
import { findCluster, type FoundBackup, type FoundRepository, readRepository, type Unreadable } from "./catalog.ts";
import { formatTime } from "./listing.ts";
import { openPlace, type PlaceOptions } from "./place/place.ts";
import { openProgress, type Progress } from "./progress.ts";
import { readTextFile } from "@coppice/proto/kit/read-text-file";
import { showName } from "./show-name.ts";

/** What is verified, and how. */
export interface VerifyOptions extends PlaceOptions {
  /** Name or id of a cluster, or id of a backup; everything without it. */
  readonly only: string | undefined;
  readonly content?: boolean;
  readonly identity?: string;
}

/** What may not be read may be whole. */
const unread = "REPOSITORY_NOT_READABLE";

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
  readonly signal: AbortSignal;
}

/** Verifies one backup and prints what came of it; gives its failure. */
async function verifyOne(backup: FoundBackup, checking: Checking): Promise<Failure | undefined> {
  const { storage, progress, content, identities, signal } = checking;
  const { result, failure } = await verifyBackup(storage, backup.address, {
    signal,
    onProgress: progress.update,
    ...(content
      ? {
          openContent: async (manifest) =>
            openPhysicalCheck(manifest, { identities, signal }) ??
            (await openContentCheck(manifest, { identities, signal })),
        }
      : {}),
  });
  progress[Symbol.dispose]();
  const { backupId } = backup.address;
  const of = `${showName(backup.manifest.clusterName)}, ${formatTime(backup.startTime)}`;
  if (!failure) {
    const read = `${result.objects} objects, ${formatSize(result.bytes)}`;
    const how = content ? "every digest matches, all of it can be decoded" : "every digest matches";
    const lack = backup.manifest.complete ? "" : "; it is incomplete";
    process.stdout.write(`✓ ${backupId}  ${of}  ${read}: ${how}${lack}\n`);
    return undefined;
  }
  const lines = result.problems.map(({ affects, message }) => `    ${showName(affects)}: ${message}`);
  process.stdout.write(
    `✗ ${backupId}  ${of}  ${result.problems.length === 1 ? "1 problem" : `${result.problems.length} problems`}\n${lines.join("\n")}\n`,
  );
  return failure;
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
  const { backups, unreadable } = choose(await readRepository(storage, signal), options.only);
  if (content) for (const { manifest } of backups) matchIdentities(manifest.recipients, identities);
  using progress = openProgress(process.stderr);
  const failures: Failure[] = [];
  for (const { key, message, reason } of unreadable) {
    process.stdout.write(`✗ ${showName(key)}  ${message}\n`);
    failures.push(new Failure(reason === unread ? unread : "MANIFEST_UNREADABLE", message));
  }
  for (const backup of backups) {
    const failure = await verifyOne(backup, { storage, progress, content, identities, signal });
    if (failure) failures.push(failure);
  }
  const [first] = failures;
  if (!first) return 0;
  const count = backups.length + unreadable.length;
  const damaged = failures.filter(({ reason }) => reason !== unread);
  const [worst] = damaged;
  if (!worst) {
    const message = `${failures.length} of ${count} could not be read in ${storage.name}, which says nothing against them`;
    throw new Failure(first.reason, message, { hint: first.hint, metadata: first.metadata });
  }
  const more = failures.length === damaged.length ? "" : `, and ${failures.length - damaged.length} could not be read`;
  throw new Failure(worst.reason, `${damaged.length} of ${count} are damaged in ${storage.name}${more}`, {
    hint: "restore from one that is sound: coppice-agent restore … --backup ID; what is named is lost in this copy",
    metadata: worst.metadata,
  });
}
