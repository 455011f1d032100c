import { isFailure } from "@coppice/proto/kit/failure";
import { partialName, segmentName } from "@coppice/proto/kit/wal/segment";
import type { WalPlace } from "../../repository/layout.ts";
import type { Storage } from "../../storage/storage.ts";
import type { ArchiveIndex } from "../store/archive-index.ts";
import { storedDigest } from "../store/stored-digest.ts";
import type { ArchivedStart } from "./choose-start.ts";

/** Where the last that is archived is looked up. */
export interface ArchivedIn {
  readonly index: ArchiveIndex;
  readonly storage: Storage;
  readonly place: WalPlace;
  readonly segmentBytes: bigint;
  readonly signal: AbortSignal;
}

/**
 * What the last that is archived has to be when it comes once more, by the index or by what lies there; undefined where it does
 * not come, and where this host cannot tell. Fails as the storage does, and with CONTENT_UNREADABLE.
 */
export async function archivedEnd(
  { timeline, lsn, archivedLsn }: ArchivedStart,
  { index, storage, place, segmentBytes, signal }: ArchivedIn,
): Promise<{ readonly endLsn: bigint; readonly sha256: string } | undefined> {
  if (archivedLsn <= lsn) return undefined;
  const isWhole = archivedLsn === lsn + segmentBytes;
  const name = isWhole ? segmentName(timeline, lsn, segmentBytes) : partialName(timeline, archivedLsn, segmentBytes);
  try {
    const sha256 = index.digestOf(name) ?? (await storedDigest(storage, { place, name, signal }));
    return { endLsn: archivedLsn, sha256 };
  } catch (error) {
    const cannotTell = ["OBJECT_MISSING", "IDENTITY_MISSING", "REPOSITORY_NOT_READABLE"];
    if (isFailure(error) && cannotTell.includes(error.reason)) return undefined;
    throw error;
  }
}
