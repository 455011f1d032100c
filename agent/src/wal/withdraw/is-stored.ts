import { coverage } from "@coppice/proto/kit/recovery/reach";
import { parseTimelineHistory } from "@coppice/proto/kit/recovery/timeline-history";
import { timelinePath } from "@coppice/proto/kit/recovery/timeline-path";
import { segmentStart } from "@coppice/proto/kit/wal/segment";
import type { ReplicationConnection } from "../../postgres/replication/open-replication.ts";
import { walGrantPrefix } from "../../repository/layout.ts";
import { lookIfAllowed, unseen } from "../../storage/look-if-allowed.ts";
import type { Storage } from "../../storage/storage.ts";
import { joinRuns, listBeyond, type Listed } from "../store/list-extents.ts";

/** A stretch of a server's WAL, and where it is looked for. */
export interface StoredFromTo {
  readonly fromLsn: bigint;
  /** The segment that the server is in when left out: what is full is stored by then. */
  readonly toLsn: bigint | undefined;
  readonly listed: Listed;
}

/**
 * Whether a repository holds the WAL of a server's own timelines between two positions, and no hole behind them either;
 * `unseen` where this host may not look. Fails as the storage does, and as the server.
 */
export async function isStored(
  storage: Storage,
  replication: Pick<ReplicationConnection, "identify" | "timelineHistory">,
  { fromLsn, toLsn, listed }: StoredFromTo,
): Promise<boolean | typeof unseen> {
  const { timeline, lsn } = await replication.identify();
  const { segmentBytes } = listed;
  const neededLsn = toLsn ?? segmentStart(lsn, segmentBytes);
  if (neededLsn <= fromLsn) return true;
  const histories = timeline === 1 ? [] : [await readHistory(replication, timeline)];
  const path = timelinePath(histories, timeline);
  // Who may not list would be told of nothing there.
  if ((await lookIfAllowed(storage, () => tryList(storage, listed))) === unseen) return unseen;
  const found = [];
  for (const piece of path) {
    if (piece.endLsn !== undefined && piece.endLsn <= fromLsn) continue;
    const endLsn = piece.startLsn > fromLsn ? piece.startLsn : fromLsn;
    found.push(...(await listBeyond(storage, { timeline: piece.timeline, endLsn }, listed)));
  }
  const own = { repository: "", systemIdentifier: "" };
  const extents = joinRuns(found).map((extent) => ({ ...extent, ...own }));
  const last = coverage({ systemIdentifier: "", segmentBytes, extents }, path, "").at(-1);
  return last !== undefined && last.startLsn <= fromLsn && neededLsn <= last.endLsn;
}

async function readHistory(replication: Pick<ReplicationConnection, "timelineHistory">, timeline: number) {
  const { content } = await replication.timelineHistory(timeline);
  return parseTimelineHistory(timeline, content.toString("utf8"));
}

async function tryList(storage: Storage, { place, signal }: Listed): Promise<void> {
  for await (const _ of storage.list(walGrantPrefix(place), signal)) return;
}
