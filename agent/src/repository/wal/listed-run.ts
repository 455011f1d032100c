import { parseWalFile } from "@coppice/proto/kit/wal/segment";
import { parseObjectOwner } from "../layout.ts";

/** WAL that an object holds. */
export interface ListedRun {
  readonly timeline: number;
  readonly startLsn: bigint;
  /** The first position that is not in it. */
  readonly endLsn: bigint;
}

/** Which WAL the object of a key holds, a segment or a part of one; undefined of any other object. */
export function listedRun(key: string, segmentBytes: bigint): ListedRun | undefined {
  const owner = parseObjectOwner(key);
  const file = owner.is === "wal" ? parseWalFile(owner.name, segmentBytes) : undefined;
  if (file?.kind !== "segment" && file?.kind !== "partial") return undefined;
  const { timeline, startLsn } = file;
  const endLsn = file.kind === "segment" ? startLsn + segmentBytes : file.endLsn;
  return endLsn === undefined ? undefined : { timeline, startLsn, endLsn };
}
