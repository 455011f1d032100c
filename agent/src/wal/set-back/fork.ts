import { isFailure } from "@coppice/proto/kit/failure";
import { type Ancestor, parseTimelineHistory } from "@coppice/proto/kit/recovery/timeline-history";
import { historyName, partialName, segmentName } from "@coppice/proto/kit/wal/segment";
import { walKey, type WalPlace } from "../../repository/layout.ts";
import type { Storage } from "../../storage/storage.ts";
import { digestPart } from "../content/part-digest.ts";
import { isWithin, type WalExtent } from "../store/extent.ts";
import { decodeWal, toDecodeFailure } from "../store/wal-codec.ts";

/** Where timelines parted is looked for. */
export interface ForkOptions {
  readonly storage: { use<T>(work: (storage: Storage) => Promise<T>): Promise<T> };
  readonly place: WalPlace;
  readonly segmentBytes: bigint;
  readonly signal: AbortSignal;
}

/** The beginning of a segment as an older timeline has archived it, up to where the segment's own one left that. */
export interface ArchivedBeginning {
  readonly name: string;
  readonly bytes: number;
  /** As digestPart gives it. */
  readonly sha256: string;
}

/** Looks at what a timeline grew out of, by its history. */
export interface Forks {
  /** What the server says of a timeline: where the archived history is encrypted nobody else does. */
  note(timeline: number, ancestors: readonly Ancestor[]): void;
  /** Timeline of the segment before, of one in which its own timeline begins; undefined of others, and where nobody can tell. */
  timelineBefore(segment: WalExtent): Promise<number | undefined>;
  /** What older timelines have archived of its beginning; undefined where they have nothing that can be read here. */
  beginningOf(segment: WalExtent, archived: readonly WalExtent[]): Promise<ArchivedBeginning | undefined>;
  /** The digest of so many first bytes of an archived file, as digestPart gives it; undefined where that cannot be read here. */
  digestOf(name: string, bytes: number): Promise<string | undefined>;
}

/** Opens it; a history is read once. */
export function openForks({ storage, place, segmentBytes, signal }: ForkOptions): Forks {
  const histories = new Map<number, readonly Ancestor[]>();
  /** Of one segment, whose parts are stored one after the other. */
  let compared: ArchivedBeginning | undefined;

  /** From the oldest on; none where it is not archived, or cannot be read here. */
  async function ancestorsOf(timeline: number): Promise<readonly Ancestor[]> {
    if (timeline === 1) return [];
    const known = histories.get(timeline);
    if (known) return known;
    const content = await readPlain(historyName(timeline), async (plain) => {
      const chunks: Buffer[] = [];
      for await (const chunk of plain) chunks.push(chunk);
      return Buffer.concat(chunks).toString("utf8");
    });
    if (content === undefined) return [];
    const { ancestors } = parseTimelineHistory(timeline, content);
    histories.set(timeline, ancestors);
    return ancestors;
  }
  /** Undefined where it is not there, or cannot be read here. */
  async function readPlain<T>(
    name: string,
    read: (plain: AsyncIterable<Buffer>) => Promise<T>,
  ): Promise<T | undefined> {
    const key = walKey(place, name);
    try {
      return await storage.use(async (opened) =>
        read(await decodeWal(await opened.get(key, { signal }), undefined, signal)),
      );
    } catch (error) {
      signal.throwIfAborted();
      const failure = toDecodeFailure(error, key);
      const isUntold = ["OBJECT_MISSING", "CONTENT_UNREADABLE", "IDENTITY_MISSING", "REPOSITORY_NOT_READABLE"] as const;
      if (isUntold.some((reason) => isFailure(failure, reason))) return undefined;
      throw failure;
    }
  }

  const digestOf = (name: string, bytes: number) =>
    readPlain(name, (plain) => digestPart(plain, { bytes, sizeBytes: Number(segmentBytes) }));

  return {
    note: (timeline, ancestors) => void histories.set(timeline, ancestors),
    async timelineBefore({ timeline, startLsn }) {
      const ancestors = await ancestorsOf(timeline);
      return ancestors.find(({ endLsn }) => endLsn >= startLsn)?.timeline;
    },
    async beginningOf({ timeline, startLsn }, archived) {
      const endLsn = startLsn + segmentBytes;
      const left = (await ancestorsOf(timeline)).filter((one) => one.endLsn > startLsn);
      for (const ancestor of left.toReversed()) {
        const of = { timeline: ancestor.timeline, startLsn };
        const part = archived.findLast(
          (one) =>
            one.timeline === of.timeline && one.startLsn <= startLsn && startLsn < one.endLsn && one.endLsn < endLsn,
        );
        const isWhole = isWithin(archived, { ...of, endLsn });
        if (!isWhole && !part) continue;
        const storedLsn = isWhole ? endLsn : (part?.endLsn ?? startLsn);
        const commonLsn = storedLsn < ancestor.endLsn ? storedLsn : ancestor.endLsn;
        const name = isWhole
          ? segmentName(of.timeline, startLsn, segmentBytes)
          : partialName(of.timeline, storedLsn, segmentBytes);
        const bytes = Number(commonLsn - startLsn);
        if (compared?.name === name && compared.bytes === bytes) return compared;
        const sha256 = await digestOf(name, bytes);
        if (sha256 !== undefined) return (compared = { name, bytes, sha256 });
      }
      return undefined;
    },
    digestOf,
  };
}
