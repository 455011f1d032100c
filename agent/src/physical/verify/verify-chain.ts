import { clone, create } from "@bufbuild/protobuf";
import type { BackupAddress } from "@coppice/proto/gen/coppice/agent/v1/repository_target";
import {
  type ObjectProblem,
  ObjectProblemSchema,
  type VerifyBackupResult,
  VerifyBackupResultSchema,
} from "@coppice/proto/gen/coppice/agent/v1/verify_backup";
import { type WorkDone, WorkDoneSchema } from "@coppice/proto/gen/coppice/common/v1/progress";
import type { BackupManifest } from "@coppice/proto/gen/coppice/repository/v1/manifest";
import { Failure } from "@coppice/proto/kit/failure";
import { backupPrefix, manifestKey } from "../../repository/layout.ts";
import { type CheckContent, type Verified, unreadReason, verifyBackup } from "../../repository/verify.ts";
import type { Storage } from "../../storage/storage.ts";
import { openPhysicalCheck } from "./open-physical-check.ts";

/** A backup to verify with those that it builds on. */
export interface ChainToVerify {
  /** From the full one on, the backup itself last; a dump and a full stand alone. */
  readonly addresses: readonly BackupAddress[];
  /** Manifest of what the first of them builds on, where that is verified by itself. */
  readonly parent?: BackupManifest | undefined;
  /** Does something with the storage of one of them. */
  readonly withStorage: <T>(address: BackupAddress, work: (storage: Storage) => Promise<T>) => Promise<T>;
  /** Also looks into them; without it only digests count. */
  readonly content?: {
    readonly identitiesOf: (address: BackupAddress) => string | undefined;
    /** Opens the check of what is no physical backup. */
    readonly openOther: (manifest: BackupManifest, identities: string | undefined) => Promise<CheckContent>;
  };
  readonly signal: AbortSignal;
  readonly onProgress: (work: WorkDone) => void;
}

/** What was found, and the failure that it amounts to. */
export type VerifiedChain = Pick<Verified, "result" | "failure">;

/**
 * Verifies a backup and everything that a restore of it would read, as verifyBackup does it for each, and that the backups
 * belong together. Problems name the backup that they are of. Throws as verifyBackup.
 */
export async function verifyChain(chain: ChainToVerify): Promise<VerifiedChain> {
  const { addresses, withStorage, content, signal } = chain;
  const result = create(VerifyBackupResultSchema);
  const failures: Failure[] = [];
  let { parent } = chain;
  for (const [index, address] of addresses.entries()) {
    const isLast = index === addresses.length - 1;
    const { backupId } = address;
    const parentStartLsn = parent?.content.case === "physical" ? parent.content.value.startLsn : undefined;
    const identities = content?.identitiesOf(address);
    const verified = await withStorage(address, (storage) =>
      verifyBackup(storage, address, {
        signal,
        onProgress: (work) => chain.onProgress(addresses.length === 1 ? work : named(work, backupId)),
        ...(content && {
          openContent: async (manifest) =>
            openPhysicalCheck(manifest, { identities, parentStartLsn, signal }) ??
            (await content.openOther(manifest, identities)),
        }),
      }),
    );
    const broken = whyApart(parent, verified.manifest);
    const problems = broken === undefined ? [] : [apart(address, broken)];
    addTo(result, backupId, [...verified.result.problems, ...problems], verified.result);
    if (verified.failure) failures.push(verified.failure);
    else if (broken !== undefined) failures.push(new Failure("BACKUP_CHAIN_BROKEN", broken));
    if (!isLast) result.parents.push(backupId);
    parent = verified.manifest;
  }
  // What may not be read says less than what is damaged.
  return { result, failure: failures.find(({ reason }) => reason !== unreadReason) ?? failures[0] };
}

function named(work: WorkDone, backupId: string): WorkDone {
  const own = clone(WorkDoneSchema, work);
  own.phase = `${work.phase} ${backupId}`;
  return own;
}

function addTo(
  result: VerifyBackupResult,
  backupId: string,
  problems: readonly ObjectProblem[],
  { objects, bytes }: VerifyBackupResult,
): void {
  result.objects += objects;
  result.bytes += bytes;
  for (const problem of problems) result.problems.push(Object.assign(problem, { backupId }));
}

/** Why two backups are no chain; undefined where they are, or where one of them cannot be read, which is told already. */
function whyApart(parent: BackupManifest | undefined, own: BackupManifest | undefined): string | undefined {
  if (!parent || own?.content.case !== "physical") return undefined;
  const { parentBackupId } = own.content.value;
  if (parentBackupId !== parent.backupId)
    return `the backup ${own.backupId} builds on ${parentBackupId || "nothing"}, not on ${parent.backupId}`;
  if (parent.systemIdentifier === own.systemIdentifier) return undefined;
  return `the backup ${own.backupId} is of another cluster than ${parent.backupId}`;
}

function apart(address: BackupAddress, message: string): ObjectProblem {
  return create(ObjectProblemSchema, { key: manifestKey(backupPrefix(address)), message, affects: "all" });
}
