import { timestampDate } from "@bufbuild/protobuf/wkt";
import type { ClusterFacts } from "@coppice/proto/gen/coppice/agent/v1/check_cluster";
import type { BackupAddress } from "@coppice/proto/gen/coppice/agent/v1/repository_target";
import type { BackupManifest } from "@coppice/proto/gen/coppice/repository/v1/manifest";
import type { PhysicalContent } from "@coppice/proto/gen/coppice/repository/v1/physical_content";
import { isFailure } from "@coppice/proto/kit/failure";
import { formatLsn, parseLsn } from "@coppice/proto/kit/wal/lsn";
import { majorOf } from "../../../postgres/majors.ts";
import { readManifest } from "../../../repository/get.ts";
import type { Storage } from "../../../storage/storage.ts";
import type { ServerFacts } from "../server-facts.ts";

/** The backup that an incremental is asked to build on. */
export interface ParentRequest {
  readonly address: BackupAddress;
  readonly storage: Storage;
  /** An identity file, for a parent that is encrypted, where this host has one. */
  readonly identities: string | undefined;
}

/** The server that the incremental is taken of, as it was seen. */
export interface SeenServer {
  readonly facts: ClusterFacts;
  readonly server: ServerFacts;
  readonly timeline: number;
  /** The end of its WAL. */
  readonly lsn: bigint;
  /** When it was last found to be set back, or to be a copy of what it was; undefined when it never was. */
  readonly setBackTime: Date | undefined;
  readonly signal: AbortSignal;
}

/** A parent whose manifest was read, or why nothing can build on it, for people. */
export type ReadParent =
  | { readonly manifest: BackupManifest; readonly content: PhysicalContent }
  | { readonly manifest?: undefined; readonly problem: string };

/**
 * Reads the manifest of a parent and compares it with the server: whatever kind of incremental it is, both have to be of
 * the same cluster, major version and timeline, and in one history. Fails only as the storage does.
 */
export async function readParent({ address, storage }: ParentRequest, seen: SeenServer): Promise<ReadParent> {
  const { facts, timeline, signal } = seen;
  const { backupId } = address;
  const found = await readManifest(storage, address, signal).catch((error: unknown) => {
    if (isFailure(error, "MANIFEST_MISSING") || isFailure(error, "DIGEST_MISMATCH")) return undefined;
    throw error;
  });
  if (!found) return { problem: `the manifest of its parent ${backupId} is missing or another one` };
  const { manifest } = found;
  if (manifest.content.case !== "physical") return { problem: `its parent ${backupId} is no physical backup` };
  const content = manifest.content.value;
  if (manifest.systemIdentifier !== facts.systemIdentifier)
    return { problem: `its parent ${backupId} is of another cluster, ${manifest.systemIdentifier}` };
  const [before, now] = [manifest.serverVersionNum, facts.serverVersionNum].map(majorOf);
  if (before !== now) return { problem: `its parent ${backupId} is of PostgreSQL ${before}` };
  if (content.timeline !== timeline)
    return {
      problem: `the server is on timeline ${timeline}, and its parent was taken on timeline ${content.timeline}`,
    };
  const { setBackTime, lsn } = seen;
  const endTime = manifest.endTime && timestampDate(manifest.endTime);
  if (setBackTime !== undefined && (endTime === undefined || endTime <= setBackTime))
    return {
      problem: `the server was found at ${setBackTime.toISOString()} to be a copy, or to be set back, and its parent ${backupId} was taken before`,
    };
  if (!facts.inRecovery && parseLsn(content.stopLsn) > lsn)
    return {
      problem: `the server is at ${formatLsn(lsn)}, before the end of its parent ${backupId} at ${content.stopLsn}`,
    };
  return { manifest, content };
}
