import { fromJsonString } from "@bufbuild/protobuf";
import { create } from "@bufbuild/protobuf";
import {
  type ScannedBackup,
  type ScannedWal,
  ScanRepositoryCommandSchema,
} from "@coppice/proto/gen/coppice/agent/v1/scan_repository";
import { BackupKind } from "@coppice/proto/gen/coppice/common/v1/backup_kind";
import { RebuiltRepositorySchema } from "@coppice/proto/gen/coppice/control/v1/repository_operation";
import { type ClusterFile, ClusterFileSchema } from "@coppice/proto/gen/coppice/repository/v1/cluster_file";
import { type BackupManifest, BackupManifestSchema } from "@coppice/proto/gen/coppice/repository/v1/manifest";
import type { CatalogChange, StoredBackup } from "./catalog-change.ts";
import { Failure, failureToDetail } from "@coppice/proto/kit/failure";
import { isId } from "@coppice/proto/kit/id";
import { parseTimelineHistory } from "@coppice/proto/kit/recovery/timeline-history";
import { microsecondsOf } from "@coppice/proto/kit/recovery-point/microseconds";
import { isWholeCluster } from "@coppice/proto/kit/repository/default-set";
import { parseLsn } from "@coppice/proto/kit/wal/lsn";
import { defineKind, required } from "./kind.ts";
import { parseRun } from "./parse-run.ts";
import { physicalOf, physicalProblem } from "./physical-manifest.ts";
import { reachability } from "./reachability.ts";
import { storedObjects } from "./stored-objects.ts";

/** Reads a repository and enters what the catalog does not know. It changes nothing there, so it can be repeated. */
export const rebuildRepository = defineKind({
  spec: "rebuildRepository",
  command: "scanRepository",
  retriesAfterLoss: 2,
  settle: "repeat",
  mayLeave: undefined,
  isHeavy: false,
  references: ({ repository }) => ({
    repositoryId: repository,
    purposes: ["read"],
    contents: true,
    decrypts: "whereAllowed",
  }),
  plan(_spec, facts) {
    // What an operation is writing it will enter itself, or remove again where it turns out not to be whole.
    const { activeFolders, deletingFolders, knownFolders, knownServers } = required(facts.contents);
    return create(ScanRepositoryCommandSchema, {
      repository: required(facts.repository),
      knownFolders: [...knownFolders, ...activeFolders],
      activeFolders: [...activeFolders, ...deletingFolders],
      knownServers: [...knownServers],
    });
  },
  apply({ repository: repositoryId, repositoryName, adoptedRecipients }, { result, failure }) {
    const changes = reachability({ repositoryId }, failure);
    if (result === undefined) return { failure, changes };
    const problems = [...result.unreadable];
    const read = <T>(what: string, parse: () => T): T[] => {
      try {
        return [parse()];
      } catch (error) {
        problems.push(`${what}: ${error instanceof Error ? error.message : String(error)}`);
        return [];
      }
    };
    const clusters = result.clusterFiles.flatMap((bytes) => read("cluster.json", () => clusterFile(bytes, problems)));
    const backups = result.backups.flatMap((scanned) =>
      read(scanned.folder, () => storedBackup(repositoryId, scanned)),
    );
    const wrong = wrongIdentity(repositoryName, adoptedRecipients, backups);
    if (wrong) return { failure: failureToDetail(wrong), changes };
    const named = new Set(clusters.map(({ clusterId }) => clusterId));
    const orphans = backups.filter(({ clusterId }) => !named.has(clusterId));
    for (const { folder, clusterId } of orphans)
      problems.push(`${clusterId}/${folder}: its cluster.json is missing or cannot be used`);
    const wal = result.wal.flatMap((scanned) => read(`the WAL of ${scanned.clusterId}`, () => scannedWal(scanned)));
    if (result.more) problems.push("the repository holds more backups than one answer: repeat the rebuild");
    const { ordered: entered, orphans: cut } = inOrder(backups.filter(({ clusterId }) => named.has(clusterId)));
    for (const { folder, clusterId, manifest } of cut) {
      problems.push(`${clusterId}/${folder}: ${parentOf(manifest)}, which it builds on, was not found with it`);
    }
    for (const folder of result.missingFolders) problems.push(`${folder}: ${missing}; it counts as damaged`);
    const value = create(RebuiltRepositorySchema, {
      repository: repositoryId,
      clusters: clusters.map(({ name }) => name),
      backups: entered.length,
      knownBackups: result.knownBackups,
      problems,
      foreignObjects: result.foreignObjects,
      foreignKeys: result.foreignKeys,
      undecrypted: result.undecrypted,
      leftOut: result.leftOut,
    });
    return {
      result: { case: "rebuiltRepository", value },
      failure,
      changes: [
        ...changes,
        ...clusters.map((file) => ({ is: "clusterFound", file }) as const),
        ...entered.map((backup) => ({ is: "backupStored", backup }) as const),
        ...result.missingFolders.flatMap((folder) => missingCopy(repositoryId, folder)),
        // Of a cluster that could not be entered nothing is.
        ...wal.map((found) => ({ is: "walScanned", repositoryId, ...found }) as const),
      ],
    };
  },
});

const missing = "the catalog knows it, and its manifest is not in the repository";

function missingCopy(repositoryId: string, folder: string): CatalogChange[] {
  const backupId = /bkp_[0-9a-z]{26}$/.exec(folder)?.[0];
  return backupId === undefined ? [] : [{ is: "copyVerified", backupId, repositoryId, problem: missing }];
}

const isName = (name: string) => /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(name);
const mostInteger = 2 ** 31 - 1;

/** What the catalog would refuse of one file must not keep it from all the others. */
function clusterFile(bytes: Uint8Array, problems: string[]): ClusterFile {
  const file = fromJsonString(ClusterFileSchema, decode(bytes), { ignoreUnknownFields: true });
  const { formatVersion, requiredFeatures, clusterId, name } = file;
  if (!isId(clusterId, "cls")) throw new Error(`${JSON.stringify(clusterId)} is no id of a cluster`);
  if (formatVersion !== 1 || requiredFeatures.length > 0) {
    const needed = [...requiredFeatures, `format version ${formatVersion}`].join(", ");
    throw new Error(`that of ${clusterId} needs ${needed}, which this version does not know`);
  }
  if (!isName(name))
    throw new Error(`that of ${clusterId} names it ${JSON.stringify(name)}, which is no cluster's name`);
  file.incarnations = file.incarnations.filter(({ systemIdentifier, major, firstSeenTime }) => {
    const isSound = firstSeenTime !== undefined && /^\d{1,20}$/.test(systemIdentifier) && major > 0 && major < 10_000;
    if (!isSound) problems.push(`cluster.json: that of ${clusterId} describes an incarnation wrongly`);
    return isSound;
  });
  return file;
}

const decode = (bytes: Uint8Array) => new TextDecoder("utf-8", { fatal: true }).decode(bytes);

/** An identity that was given to read what is stored, and reads none of it, is a mistake; better known now than that night. */
function wrongIdentity(
  repository: string,
  adopted: readonly string[],
  backups: readonly StoredBackup[],
): Failure | undefined {
  const encrypted = backups.map(({ manifest }) => manifest.recipients).filter(({ length }) => length > 0);
  const isOpened = encrypted.some((recipients) => recipients.some((one) => adopted.includes(one)));
  if (adopted.length === 0 || encrypted.length === 0 || isOpened) return undefined;
  const recipients = [...new Set(encrypted.flat())].join(", ");
  const message = `what repository ${repository} holds is encrypted to ${recipients}, and the identity given with it is of ${adopted.join(", ")}`;
  return new Failure("IDENTITY_WRONG", message, {
    metadata: { recipients },
    hint: `coppice repository remove ${repository}, and add it with the identity of one of these recipients`,
  });
}

function storedBackup(repositoryId: string, scanned: ScannedBackup): StoredBackup {
  const manifest = fromJsonString(BackupManifestSchema, decode(scanned.manifest), { ignoreUnknownFields: true });
  const problem =
    placeProblem(manifest, scanned) ??
    (manifest.content.case === "physical" ? physicalProblem(manifest) : dumpProblem(manifest));
  if (problem !== undefined) throw new Error(problem);
  return {
    id: manifest.backupId,
    clusterId: manifest.clusterId,
    repositoryId,
    folder: scanned.folder,
    manifest,
    manifestSha256: scanned.manifestSha256,
    storedBytes: sizeOf(manifest) + BigInt(scanned.manifest.length),
    recipe: scanned.recipe,
    defaultDatabases: manifest.content.case !== "dump" || isWholeCluster(manifest.content.value.options),
  };
}

function scannedWal({ clusterId, systemIdentifier, stored, anchors, histories }: ScannedWal) {
  for (const { timeline, content } of histories) parseTimelineHistory(timeline, content);
  return {
    clusterId,
    systemIdentifier,
    runs: stored.map(parseRun),
    anchors: anchors.map(({ timeline, time, lsn }) => ({
      timeline,
      timeUs: microsecondsOf(required(time)),
      lsn: parseLsn(lsn),
    })),
    histories: histories.map(({ timeline, content }) => ({ timeline, content })),
  };
}

function placeProblem(
  { backupId, clusterId, serverVersionNum }: BackupManifest,
  { folder }: ScannedBackup,
): string | undefined {
  if (!isId(backupId, "bkp") || !folder.endsWith(`_${backupId}`))
    return `its manifest is of ${JSON.stringify(backupId)}`;
  if (!isId(clusterId, "cls")) return `its manifest is of the cluster ${JSON.stringify(clusterId)}`;
  return serverVersionNum > mostInteger ? `it is of PostgreSQL ${serverVersionNum}` : undefined;
}

function dumpProblem({ kind, content, startTime, endTime }: BackupManifest): string | undefined {
  if (kind !== BackupKind.DUMP || content.case !== "dump") return "it is no backup that this version knows";
  return startTime && endTime ? undefined : "its manifest lacks its times";
}

/** What builds on something else comes after it; what builds on nothing that is there cannot be entered. */
function inOrder(backups: readonly StoredBackup[]): { ordered: StoredBackup[]; orphans: StoredBackup[] } {
  const ordered: StoredBackup[] = [];
  const entered = new Set([""]);
  let left = [...backups];
  for (let before = -1; left.length !== before;) {
    before = left.length;
    const next = left.filter(({ manifest }) => entered.has(parentOf(manifest)));
    for (const backup of next) {
      ordered.push(backup);
      entered.add(backup.id);
    }
    left = left.filter(({ id }) => !entered.has(id));
  }
  return { ordered, orphans: left };
}

function parentOf(manifest: BackupManifest): string {
  return physicalOf(manifest)?.parentBackupId ?? "";
}

function sizeOf(manifest: BackupManifest): bigint {
  return storedObjects(manifest).reduce((sum, { sizeBytes }) => sum + sizeBytes, 0n);
}
