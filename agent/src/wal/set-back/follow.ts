import { Failure, isFailure } from "@coppice/proto/kit/failure";
import type { Ancestor } from "@coppice/proto/kit/recovery/timeline-history";
import { formatLsn } from "@coppice/proto/kit/wal/lsn";
import { partialName, segmentName } from "@coppice/proto/kit/wal/segment";
import { walKey, type WalPlace } from "../../repository/layout.ts";
import { setBackHint } from "../../repository/wal/set-back-failure.ts";
import type { Storage } from "../../storage/storage.ts";
import { openLinkReader, type RecordLinks } from "../content/record-links.ts";
import type { ArchiveIndex } from "../store/archive-index.ts";
import { isWithin, type WalExtent } from "../store/extent.ts";
import { storedDigest } from "../store/stored-digest.ts";
import { storedLinks } from "../store/stored-links.ts";
import { decodeWal, toDecodeFailure } from "../store/wal-codec.ts";
import { openForks } from "./fork.ts";
import { endRefusal, noteRefusal, readRefusal, refusalFailure } from "./refusal.ts";

/** WAL that is to be stored: a segment, or a part of one. */
export interface FollowingWal {
  readonly run: WalExtent;
  readonly links: RecordLinks;
  /** The digest of so many first bytes of it, as digestPart gives it. */
  readonly partSha256: (bytes: number) => Promise<string | undefined>;
}

/** What WAL has to follow, and how that is found out. */
export interface FollowOptions {
  /** Folder of the archive. */
  readonly folder: string;
  readonly index: ArchiveIndex;
  /** What the repository holds beyond the index, of whomever. */
  readonly beyond: readonly WalExtent[];
  readonly storage: { use<T>(work: (storage: Storage) => Promise<T>): Promise<T> };
  readonly place: WalPlace;
  readonly segmentBytes: bigint;
  /** Whether the server has that segment with the archived bytes: asked where the archived one cannot be read here. */
  readonly hasArchived: (name: string, segment: WalExtent) => Promise<boolean>;
  readonly signal: AbortSignal;
}

/** Checks WAL before it is stored beside what is archived. */
export interface Follow {
  /** Takes in what the server says that a timeline grew out of. */
  grewOutOf(timeline: number, ancestors: readonly Ancestor[]): void;
  /**
   * Stores WAL by `store` when it goes on from what is archived right before it, and before what is archived right behind
   * it, or nothing is; while a refusal of the server stands, only what does. Fails with WAL_CONFLICT where it does not, or
   * nobody can tell, with WAL_FOREIGN, as the storage does, and as `store`. The refusal is noted, and ends by what is stored.
   */
  storing(wal: FollowingWal, store: () => Promise<void>): Promise<void>;
}

/** An archive's end is read back once. */
const mostRead = 16;

/**
 * Opens the check of one server's WAL. Two histories with one system identifier may come to the same position: by the
 * positions alone they would become one archive, that no server ever wrote. What they are told apart by does not need the
 * archived segment on the server, which removes it once it is archived.
 */
export function openFollow(options: FollowOptions): Follow {
  const { folder, index, beyond, storage, place, segmentBytes, hasArchived, signal } = options;
  const read = new Map<string, RecordLinks | "missing" | "unreadable">();
  const archived = () => [...index.extents, ...beyond];
  /** The part that was stored last by this very check: what its server sends next goes on from it. */
  let ownPart: WalExtent | undefined;
  const forks = openForks({ storage, place, segmentBytes, signal });
  const nameOf = ({ timeline, startLsn }: WalExtent) => segmentName(timeline, startLsn, segmentBytes);

  async function linksOf(segment: WalExtent): Promise<RecordLinks | "missing" | "unreadable"> {
    const noted = index.linksOf(segment);
    if (noted) return noted;
    const name = nameOf(segment);
    const known = read.get(name) ?? (await storage.use((opened) => readLinks(opened, segment, name)));
    // What this host may read can change.
    if (known !== "unreadable") read.set(name, known);
    const [oldest] = read.keys();
    if (oldest !== undefined && read.size > mostRead) read.delete(oldest);
    return known;
  }
  async function readLinks(opened: Storage, { startLsn }: WalExtent, name: string) {
    const key = walKey(place, name);
    try {
      const links = openLinkReader(startLsn);
      const plain = await decodeWal(await opened.get(key, { signal }), undefined, signal);
      for await (const chunk of plain as AsyncIterable<Buffer>) links.take(chunk);
      return links.links();
    } catch (error) {
      signal.throwIfAborted();
      const failure = toDecodeFailure(error, key);
      // What is gone or damaged is a gap anyway.
      if (isFailure(failure, "OBJECT_MISSING") || isFailure(failure, "CONTENT_UNREADABLE")) return "missing";
      if (isFailure(failure, "IDENTITY_MISSING"))
        return (await storedLinks(opened, { place, name, signal })) ?? "unreadable";
      if (isFailure(failure, "REPOSITORY_NOT_READABLE")) return "unreadable";
      throw failure;
    }
  }

  /** Whether one goes on from the other, of which one is archived; false where that is gone. */
  async function requireLink(
    segment: WalExtent,
    neighbour: WalExtent,
    isLinked: (found: RecordLinks) => boolean,
  ): Promise<boolean> {
    const found = await linksOf(neighbour);
    if (found === "missing") return false;
    if (found === "unreadable") {
      if (await hasArchived(nameOf(neighbour), neighbour)) return true;
      throw conflict(
        `whether ${nameOf(segment)} belongs to ${nameOf(neighbour)}, which is archived, cannot be told: that cannot be read here, and the server does not have it any more`,
        undefined,
        untoldHint,
      );
    }
    if (isLinked(found)) return true;
    throw conflict(
      `the server's ${nameOf(segment)} and the archived ${nameOf(neighbour)} are not of one history: their records do not follow each other`,
    );
  }

  /** Of a part of this very segment that is archived: what comes has to begin with it, or it with what comes. */
  async function requirePart({ run, partSha256 }: FollowingWal): Promise<void> {
    const { timeline, startLsn, endLsn } = run;
    const part = archived().findLast(
      (one) => one.timeline === timeline && one.startLsn <= startLsn && startLsn < one.endLsn,
    );
    if (!part || part.endLsn === endLsn || part.endLsn >= startLsn + segmentBytes) return;
    if (ownPart?.timeline === timeline && ownPart.endLsn === part.endLsn) return;
    const name = partialName(timeline, part.endLsn, segmentBytes);
    const isLonger = part.endLsn > endLsn;
    const commonLsn = isLonger ? endLsn : part.endLsn;
    const bytes = Number(commonLsn - startLsn);
    const sha256 = isLonger ? await forks.digestOf(name, bytes) : (index.digestOf(name) ?? (await digestOfPart(name)));
    // What cannot be read here says nothing.
    if (sha256 === undefined) return;
    if (sha256 === (await partSha256(bytes))) return;
    throw conflict(`the server gives other bytes of ${nameOf(run)} before ${formatLsn(commonLsn)} than are archived`);
  }
  async function digestOfPart(name: string): Promise<string | undefined> {
    try {
      return await storage.use((opened) => storedDigest(opened, { place, name, signal }));
    } catch (error) {
      if (isFailure(error, "OBJECT_MISSING")) return undefined;
      if (!isFailure(error, "IDENTITY_MISSING") && !isFailure(error, "REPOSITORY_NOT_READABLE")) throw error;
      throw conflict(`${name} is archived, and whether the server gives the same cannot be told here`, error);
    }
  }

  /** Of the segment in which a timeline begins: what it grew out of. Whether it is tied to that. */
  async function requireGrown(
    { run, partSha256 }: FollowingWal,
    before: WalExtent,
    isBefore: (found: RecordLinks) => boolean,
  ): Promise<boolean> {
    const timeline = await forks.timelineBefore(run);
    if (timeline === undefined) return false;
    const beginning = await forks.beginningOf(run, archived());
    if (beginning && run.endLsn >= run.startLsn + BigInt(beginning.bytes)) {
      if ((await partSha256(beginning.bytes)) === beginning.sha256) return true;
      throw conflict(
        `the server's ${nameOf(run)} does not begin as the archived ${beginning.name} does, which it grew out of`,
      );
    }
    const grown = { ...before, timeline };
    return isWithin(archived(), grown) && (await requireLink(run, grown, isBefore));
  }

  const hasTimeline = (timeline: number) => archived().some((one) => one.timeline === timeline);

  /** Whether it is tied to anything. */
  async function requireTied(wal: FollowingWal): Promise<boolean> {
    const { run, links } = wal;
    const { timeline, startLsn, endLsn } = run;
    const isWhole = endLsn === startLsn + segmentBytes;
    // What is there already is compared as it is stored once more.
    if (isWhole && isWithin(archived(), run)) return true;
    await requirePart(wal);
    const before = { timeline, startLsn: startLsn - segmentBytes, endLsn: startLsn };
    const after = { timeline, startLsn: endLsn, endLsn: endLsn + segmentBytes };
    const { beforeLsn, lastLsn } = links;
    const isBefore = (found: RecordLinks) => isSame(beforeLsn, found.lastLsn);
    const isTied = isWithin(archived(), before)
      ? await requireLink(run, before, isBefore)
      : await requireGrown(wal, before, isBefore);
    if (isWhole && isWithin(archived(), after))
      await requireLink(run, after, (found) => isSame(lastLsn, found.beforeLsn));
    return isTied;
  }

  return {
    grewOutOf: (timeline, ancestors) => forks.note(timeline, ancestors),
    async storing(wal, store) {
      const { timeline, endLsn: lsn } = wal.run;
      const standing = await readRefusal(folder, timeline);
      try {
        const isTied = await requireTied(wal);
        if (standing && !isTied) throw refusalFailure(standing);
        await store();
        if (lsn < wal.run.startLsn + segmentBytes) ownPart = wal.run;
        if (isTied) await endRefusal(folder, { timeline, lsn });
      } catch (error) {
        // Of two that claim the first name at once nobody is refused yet: both try again.
        const isOther =
          isFailure(error, "WAL_CONFLICT") && (error.metadata["name"] === undefined || hasTimeline(timeline));
        if (isOther) await noteRefusal(folder, { timeline, lsn, reason: "WAL_CONFLICT" });
        throw error;
      }
    },
  };
}

/** A record of a segment's size ties nothing where neither it begins nor another one does. */
function isSame(one: bigint | undefined, two: bigint | undefined): boolean {
  return one === undefined || two === undefined || one === two;
}

/** A timeline of its own is no way on there: what was refused comes first. */
const untoldHint =
  "if it is the server that was archived, let this host read in the repository where that is refused to it, else archive into another one, `coppice wal setup CLUSTER --to REPOSITORY`, and take a full backup into that; nothing was overwritten";

function conflict(what: string, cause?: unknown, hint = setBackHint): Failure {
  return new Failure("WAL_CONFLICT", what, { hint, cause });
}
