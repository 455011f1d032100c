import { parseWalFile } from "@coppice/proto/kit/wal/segment";
import { parseObjectOwner, walPrefix, type WalPlace } from "../../repository/layout.ts";
import type { Storage } from "../../storage/storage.ts";
import { addExtent, type WalExtent } from "./extent.ts";

/** What a repository holds of a server's WAL, by the names that lie there. Fails as the storage does. */
export async function listExtents(
  storage: Storage,
  { place, segmentBytes, signal }: { place: WalPlace; segmentBytes: bigint; signal: AbortSignal },
): Promise<WalExtent[]> {
  const runs: WalExtent[] = [];
  for await (const { key } of storage.list(walPrefix(place), signal)) {
    const owner = parseObjectOwner(key);
    const file = owner.is === "wal" ? parseWalFile(owner.name, segmentBytes) : undefined;
    if (file?.kind === "segment") runs.push({ ...file, endLsn: file.startLsn + segmentBytes });
    if (file?.kind === "partial" && file.endLsn !== undefined) runs.push({ ...file, endLsn: file.endLsn });
  }
  const order = (one: WalExtent, two: WalExtent) =>
    one.timeline - two.timeline || (one.startLsn < two.startLsn ? -1 : Number(one.startLsn > two.startLsn));
  let extents: WalExtent[] = [];
  for (const { timeline, startLsn, endLsn } of runs.toSorted(order))
    extents = addExtent(extents, { timeline, startLsn, endLsn });
  return extents;
}
