import { createHash } from "node:crypto";
import { type Ancestor, parseTimelineHistory } from "@coppice/proto/kit/recovery/timeline-history";
import { historyName } from "@coppice/proto/kit/wal/segment";
import type { ReplicationConnection } from "../../postgres/replication/open-replication.ts";
import type { Storage } from "../../storage/storage.ts";
import type { ArchiveIndex } from "../store/archive-index.ts";
import { storeWal } from "../store/store-wal.ts";
import { compressWal, readableOf, walEncoding } from "../store/wal-codec.ts";
import type { ArchiveOptions } from "./archive.ts";
import type { Ledger } from "./ledger.ts";

/** Where histories of timelines are stored and told. */
export interface HistoryStores {
  readonly turn: Pick<ArchiveOptions, "archive" | "signal"> & { readonly ledger: Ledger };
  readonly storage: Storage;
  readonly index: ArchiveIndex;
}

/** Stores the history file of a timeline, tells of it, and gives what it says. Fails as storing does. */
export async function storeHistory(
  replication: ReplicationConnection,
  timeline: number,
  { turn, storage, index }: HistoryStores,
): Promise<readonly Ancestor[]> {
  if (timeline === 1) return [];
  const { content } = await replication.timelineHistory(timeline);
  const { level, recipients } = walEncoding(turn.archive);
  const name = historyName(timeline);
  const sha256 = createHash("sha256").update(content).digest("hex");
  await storeWal(storage, {
    place: turn.archive,
    name,
    plainBytes: content.length,
    compressed: () => compressWal(readableOf(content), level),
    sha256: async () => sha256,
    recipients,
    known: (known) => index.digestOf(known),
    signal: turn.signal,
  });
  // At the next connection it is there, and where it is encrypted nobody here can tell what it holds.
  if (index.digestOf(name) !== sha256) await index.add({ name, sha256, run: { timeline, startLsn: 0n, endLsn: 0n } });
  const text = content.toString("utf8");
  turn.ledger.addHistory(timeline, text);
  return parseTimelineHistory(timeline, text).ancestors;
}
