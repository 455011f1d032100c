import { fail, isFailure } from "@coppice/proto/kit/failure";
import { segmentName, segmentStart } from "@coppice/proto/kit/wal/segment";
import { walKey, walPrefix, type WalPlace } from "../../repository/layout.ts";
import { listedRun } from "../../repository/wal/listed-run.ts";
import { lookIfAllowed, unseen } from "../../storage/look-if-allowed.ts";
import type { Storage } from "../../storage/storage.ts";
import { addExtent, type WalExtent } from "./extent.ts";

/** Whose WAL is listed. */
export interface Listed {
  readonly place: WalPlace;
  readonly segmentBytes: bigint;
  readonly signal: AbortSignal;
}

/** Names that a folder of segments has in common: so much WAL lies in it, whatever the size of a segment. */
const folderBytes = 1n << 32n;

/** What a repository holds of a server's WAL, by the names that lie there. Fails as the storage does. */
export async function listExtents(storage: Storage, listed: Listed): Promise<WalExtent[]> {
  return joinRuns(await runsBelow(storage, walPrefix(listed.place), listed));
}

/**
 * What it holds of one timeline beyond a position: folder by folder, until one is empty. Whoever has stored it, this agent
 * without coming to note it, or another one, an index that ends there does not know of it. Who may not list finds nothing.
 * Fails as the storage does.
 */
export async function listBeyond(
  storage: Storage,
  end: { readonly timeline: number; readonly endLsn: bigint },
  listed: Listed,
): Promise<WalExtent[]> {
  const { timeline, endLsn } = end;
  const found: WalExtent[] = [];
  for (let lsn = segmentStart(endLsn, folderBytes); ; lsn += folderBytes) {
    const name = segmentName(timeline, lsn, listed.segmentBytes);
    const prefix = walKey(listed.place, name).slice(0, -name.length);
    const runs = await runsBelow(storage, prefix, listed).catch((error: unknown) => {
      if (isFailure(error, "REPOSITORY_NOT_READABLE")) return [];
      throw error;
    });
    if (runs.length === 0 && lsn > endLsn) break;
    found.push(...runs.filter((run) => run.endLsn > endLsn));
  }
  return joinRuns(found);
}

async function runsBelow(storage: Storage, prefix: string, { segmentBytes, signal }: Listed): Promise<WalExtent[]> {
  const runs: WalExtent[] = [];
  for await (const { key } of storage.list(prefix, signal)) {
    const run = listedRun(key, segmentBytes);
    if (run) runs.push(run);
  }
  return runs;
}

/** Runs that touch or overlap as one, by timeline and position. */
export function joinRuns(runs: readonly WalExtent[]): WalExtent[] {
  const order = (one: WalExtent, two: WalExtent) =>
    one.timeline - two.timeline || (one.startLsn < two.startLsn ? -1 : Number(one.startLsn > two.startLsn));
  let extents: WalExtent[] = [];
  for (const run of runs.toSorted(order)) extents = addExtent(extents, run);
  return extents;
}

/**
 * What a repository holds, for an index that knows of nothing. A host that may only put there begins where nobody knows of
 * anything either; else it fails with REPOSITORY_NOT_READABLE, for it could be another server's WAL, and as the storage does.
 */
export async function findArchived(
  storage: Storage,
  { isFirst, ...of }: Parameters<typeof listExtents>[1] & { readonly isFirst: boolean },
): Promise<WalExtent[]> {
  const found = await lookIfAllowed(storage, () => listExtents(storage, of));
  if (found !== unseen) return found;
  if (isFirst) return [];
  return fail(
    "REPOSITORY_NOT_READABLE",
    `${storage.name} holds WAL of this server that this host does not know of, and s3:ListBucket is refused`,
    { hint: "allow s3:ListBucket to the key for reading, at least until archiving has begun here" },
  );
}
