import { type Failure, isFailure } from "@coppice/proto/kit/failure";
import { formatInstant } from "@coppice/proto/kit/recovery-point/instant";
import { recoveryWindows } from "@coppice/proto/kit/recovery/windows";
import { formatSize } from "@coppice/proto/kit/size";
import { formatLsn } from "@coppice/proto/kit/wal/lsn";
import type { Storage } from "../storage/storage.ts";
import { verifyWal, walFailure, type VerifiedWal } from "../wal/verify/verify-wal.ts";
import type { FoundCluster } from "./catalog.ts";
import { readRecoveryInput, repositoryName } from "./data-directory/read-recovery-input.ts";
import type { Progress } from "./progress.ts";
import { showName } from "./show-name.ts";

interface Checking {
  readonly storage: Storage;
  readonly progress: Progress;
  readonly identities: string | undefined;
  readonly signal: AbortSignal;
}

/** The newest physical backup of each server that the cluster has had: it says how large segments are. */
function newestOfEach({
  backups,
}: FoundCluster): { backupId: string; systemIdentifier: string; segmentBytes: bigint }[] {
  const newest = new Map<string, { backupId: string; systemIdentifier: string; segmentBytes: bigint }>();
  for (const { address, manifest } of backups) {
    const { systemIdentifier, content } = manifest;
    if (content.case !== "physical" || newest.has(systemIdentifier)) continue;
    const segmentBytes = content.value.walSegmentBytes;
    newest.set(systemIdentifier, { backupId: address.backupId, systemIdentifier, segmentBytes });
  }
  return [...newest.values()];
}

/**
 * Reads the archived WAL of a cluster's servers again, and prints what is wrong and what can be reached by what is sound.
 * Gives how many archives there were, and their failures. Throws as the storage does.
 */
export async function verifyArchives(
  cluster: FoundCluster,
  { storage, progress, identities, signal }: Checking,
): Promise<{ archives: number; failures: Failure[] }> {
  const failures: Failure[] = [];
  let archives = 0;
  for (const { backupId, systemIdentifier, segmentBytes } of newestOfEach(cluster)) {
    const verified = await verifyWal(storage, {
      place: { clusterId: cluster.id, systemIdentifier },
      segmentBytes,
      expected: [],
      identities,
      signal,
      onProgress: progress.update,
    });
    progress[Symbol.dispose]();
    if (verified.objects === 0) continue;
    archives++;
    const failure = walFailure(verified, storage.name);
    if (failure) failures.push(failure);
    const of = `WAL of ${showName(cluster.name)}, system identifier ${systemIdentifier}`;
    process.stdout.write(`${failure ? "✗" : "✓"} ${of}  ${describe(verified)}\n`);
    for (const { message } of verified.problems) process.stdout.write(`    ${message}\n`);
    try {
      const input = await readRecoveryInput({ storage, identities, signal }, cluster, backupId);
      const extents = verified.sound.map((run) => ({ ...run, repository: repositoryName, systemIdentifier }));
      const { backup: _, ...all } = input;
      for (const line of describeWindows({ ...all, extents })) process.stdout.write(`    ${line}\n`);
    } catch (error) {
      signal.throwIfAborted();
      if (!isFailure(error)) throw error;
      process.stdout.write(`    what can be reached cannot be told: ${error.message}\n`);
    }
  }
  return { archives, failures };
}

function describe({ objects, bytes, plainBytes, records, undecoded, replaced, sound }: VerifiedWal): string {
  const runs = sound.map((run) => `${formatLsn(run.startLsn)} to ${formatLsn(run.endLsn)} on timeline ${run.timeline}`);
  const unread = replaced === 0 ? "" : `; ${replaced} parts of segments not read, of which there is more`;
  const blind = undecoded === 0 ? "" : `; ${undecoded} not looked into, encrypted: --identity`;
  return `${objects} objects, ${formatSize(bytes)}, ${formatSize(plainBytes)} of WAL with ${records} records: sound from ${runs.join(", ") || "nowhere"}${blind}${unread}`;
}

function describeWindows(input: Parameters<typeof recoveryWindows>[0]): string[] {
  // The ends of backups with their own WAL can be reached whatever is archived.
  const windows = recoveryWindows(input).filter(({ startLsn, endLsn }) => startLsn < endLsn);
  if (windows.length === 0) return ["recovery can reach no point behind the ends of backups by it"];
  return windows.map(({ timeline, startLsn, endLsn, times }) => {
    const [from, to] = [times[0]?.startUs, times.at(-1)?.endUs];
    const span = from === undefined || to === undefined ? "" : `, ${formatInstant(from)} to ${formatInstant(to)}`;
    return `recovery can reach ${formatLsn(startLsn)} to ${formatLsn(endLsn)} on timeline ${timeline}${span}`;
  });
}
