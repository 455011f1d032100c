import { createHash } from "node:crypto";
import { Failure, isFailure } from "@coppice/proto/kit/failure";
import { segmentName } from "@coppice/proto/kit/wal/segment";
import { walKey, type WalPlace } from "../../repository/layout.ts";
import type { Storage } from "../../storage/storage.ts";
import type { RecordLinks } from "../content/record-links.ts";
import type { ArchiveIndex } from "./archive-index.ts";
import type { WalExtent } from "./extent.ts";
import { storedLinks } from "./stored-links.ts";
import { decodeWal, toDecodeFailure } from "./wal-codec.ts";

/** A part of a segment that is to be stored. */
export interface PartToStore {
  readonly place: WalPlace;
  readonly run: WalExtent;
  readonly segmentBytes: bigint;
  /** SHA-256 of its plain bytes, zeros behind them up to the segment's end. */
  readonly sha256: string;
  readonly links: RecordLinks;
  readonly index: ArchiveIndex;
  readonly signal: AbortSignal;
}

/**
 * Whether the whole segment that a part is of is there already, with the same bytes: then the part adds nothing. Without
 * this a server that was set back would store parts of another history beside it. Fails with WAL_CONFLICT where the bytes
 * are others, or cannot be compared here, and as the storage does.
 */
export async function isPartOfWhole(storage: Storage, part: PartToStore): Promise<boolean> {
  const { place, run, segmentBytes, index, signal } = part;
  const name = segmentName(run.timeline, run.startLsn, segmentBytes);
  // What this agent has stored of this server came behind the part.
  if (index.digestOf(name) !== undefined) return true;
  const key = walKey(place, name);
  const conflict = (cause?: unknown) =>
    new Failure("WAL_CONFLICT", `${storage.name} holds ${key} whole, and the server has given a part of it`, {
      hint: "it was stored for another server or another life of this one; where it is encrypted it cannot be compared here: restart the agent, and it is compared as a whole",
      metadata: { key },
      cause,
    });
  try {
    if ((await storage.stat(key, signal)) === undefined) return false;
    const hash = createHash("sha256");
    let left = Number(run.endLsn - run.startLsn);
    const plain = await decodeWal(await storage.get(key, { signal }), undefined, signal);
    for await (const chunk of plain as AsyncIterable<Buffer>) {
      const piece = chunk.subarray(0, left);
      hash.update(piece);
      hash.update(Buffer.alloc(chunk.length - piece.length));
      left -= piece.length;
    }
    if (hash.digest("hex") === part.sha256) return true;
  } catch (error) {
    signal.throwIfAborted();
    if (isFailure(error, "REPOSITORY_NOT_READABLE")) return false;
    if (isFailure(error, "IDENTITY_MISSING")) {
      // What follows the very same record adds nothing, and nothing of it is stored.
      const kept = await storedLinks(storage, { place, name, signal });
      if (kept?.beforeLsn !== undefined && kept.beforeLsn === part.links.beforeLsn) return true;
      throw conflict(error);
    }
    throw toDecodeFailure(error, key);
  }
  throw conflict();
}
