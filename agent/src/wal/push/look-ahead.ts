import { readdir } from "node:fs/promises";
import { isFailure } from "@coppice/proto/kit/failure";
import { isSegmentName, parseWalFile } from "@coppice/proto/kit/wal/segment";
import { beforeMissing, type WalExtent } from "../store/extent.ts";
import { identityAt } from "./offered-file.ts";
import type { StoredFile } from "./store-offered.ts";

/** How files are stored, and which of them wait. */
export interface LookAheadOptions {
  /** Folder of the server's own marks of what waits: NAME.ready. */
  readonly statusFolder: string;
  /** Stores one file out of the server's folder. */
  readonly store: (name: string) => Promise<StoredFile>;
  readonly pathOf: (name: string) => string;
  readonly signal: AbortSignal;
}

/** Stores what a server asks for one by one, and meanwhile what it will ask for next. */
export interface LookAhead {
  /** Resolves when the file, as it is now, is durable. Fails as `store`. */
  take(name: string): Promise<StoredFile>;
  /** Resolves when nothing is stored any more. */
  settled(): Promise<void>;
}

/**
 * What counts as archived of what is: not what was stored ahead of a file that still waits and is not. It is asked for yet,
 * and counts then; to leave the hole before it to be told would call that a gap.
 */
export async function inOrder(
  extents: readonly WalExtent[],
  { statusFolder, segmentBytes }: { readonly statusFolder: string; readonly segmentBytes: bigint },
): Promise<WalExtent[]> {
  const waiting = (await listWaiting(statusFolder)).flatMap((name) => {
    const file = parseWalFile(name, segmentBytes);
    return file?.kind === "segment" ? { ...file, endLsn: file.startLsn + segmentBytes } : [];
  });
  return beforeMissing(extents, waiting);
}

/** Segments that a server has marked to be archived, in order; none where its marks may not be read. */
async function listWaiting(statusFolder: string): Promise<string[]> {
  const marks = await readdir(statusFolder).catch(() => []);
  return marks.flatMap((mark) => /^([0-9A-F]{24})\.ready$/.exec(mark)?.[1] ?? []).toSorted();
}

/** Stored and not asked for yet, or on their way. */
const mostAhead = 8;
const atOnce = 3;

/** Opens one for a server. */
export function openLookAhead({ statusFolder, store, pathOf, signal }: LookAheadOptions): LookAhead {
  const begun = new Map<string, Promise<StoredFile>>();
  const running = new Set<Promise<unknown>>();
  let waiting: string[] = [];
  let newest = "";
  let isListing = false;
  // Until one is stored the server may be another one, and a timeline that of a copy.
  let provenTimeline: string | undefined;

  function begin(name: string): Promise<StoredFile> {
    const storing = store(name);
    const ended = storing.then(
      () => {},
      // It is asked for again by who needs it, and fails there.
      () => void begun.delete(name),
    );
    running.add(ended);
    void ended.then(() => {
      running.delete(ended);
      advance();
    });
    return storing;
  }
  function advance(): void {
    while (!signal.aborted && running.size < atOnce && begun.size < mostAhead) {
      const name = waiting.shift();
      if (name === undefined) return;
      if (!begun.has(name)) begun.set(name, begin(name));
    }
  }
  /** Looks which segments wait behind the one that was asked for; where the marks may not be read there is none. */
  async function list(): Promise<void> {
    if (isListing || waiting.length > 0) return;
    isListing = true;
    const names = await listWaiting(statusFolder);
    isListing = false;
    const ready = new Set(names);
    // What waits no more was given to somebody else.
    for (const name of begun.keys()) if (!ready.has(name)) begun.delete(name);
    waiting = names.filter((name) => name > newest && name.slice(0, 8) === provenTimeline && !begun.has(name));
  }
  async function isUnchanged({ name, identity }: StoredFile): Promise<boolean> {
    return (await identityAt(pathOf(name))) === identity;
  }

  return {
    async take(name) {
      const isSegment = isSegmentName(name);
      if (isSegment) newest = name;
      const ahead = begun.get(name);
      begun.delete(name);
      // What comes next is stored beside this one; not behind one of which somebody has stored other bytes.
      if (provenTimeline !== undefined) void list().then(advance);
      const early = await ahead?.catch(() => undefined);
      try {
        const stored = early && (await isUnchanged(early)) ? early : await begin(name);
        if (isSegment) provenTimeline = name.slice(0, 8);
        return stored;
      } catch (error) {
        if (isFailure(error, "WAL_CONFLICT")) {
          provenTimeline = undefined;
          waiting = [];
        }
        throw error;
      }
    },
    async settled() {
      while (running.size > 0) await Promise.all(running);
    },
  };
}
