import { open, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { isFailure } from "@coppice/proto/kit/failure";
import { parseWalFile, segmentName } from "@coppice/proto/kit/wal/segment";
import type { TablespaceWatch } from "../../postgres/wal/new-tablespaces.ts";
import type { SegmentTablespaces } from "../../postgres/wal/tablespace-records.ts";
import type { Storage } from "../../storage/storage.ts";
import { fetchPatiently } from "./fetch-patiently.ts";
import { cutWal, type WalToFetch } from "./fetch-wal.ts";

/** How files are fetched ahead of who asks for them. */
export interface PrefetchOptions {
  readonly storage: Storage;
  /** All of it but the name. */
  readonly wal: Omit<WalToFetch, "name">;
  /** Empty folder of its own; the caller removes it. */
  readonly folder: string;
  /** How long to try while the storage is in trouble. */
  readonly waitMs: number;
  /** Admits each segment before it is handed out: nothing from what it refuses on is. */
  readonly watch?: TablespaceWatch | undefined;
}

/** Hands out files of an archive, and fetches the segments that follow meanwhile. */
export interface Prefetch {
  /**
   * The path of the file, to be removed by who has read it; undefined when the archive surely has none. Fails as fetchWal.
   */
  take(name: string): Promise<string | undefined>;
}

/** A file that is here, and what it makes, where somebody watches for that. */
interface Fetched {
  readonly path: string;
  readonly seen: SegmentTablespaces | undefined;
}

const aheadOf = 4;

/** Opens one; it ends with its signal. */
export function openPrefetch({ storage, wal, folder, waitMs, watch }: PrefetchOptions): Prefetch {
  const begun = new Map<string, Promise<Fetched | undefined>>();
  let count = 0;
  const fetchOne = async (name: string): Promise<Fetched | undefined> => {
    const path = join(folder, `${count++}_${name}`);
    if (!(await fetchPatiently(storage, { ...wal, name }, { path, waitMs }))) return undefined;
    return { path, seen: await watch?.look(path, name) };
  };
  /** What a server takes into its pg_wal it syncs before it replays it: of a file that is renamed there that is done then. */
  const fetchAhead = async (name: string): Promise<Fetched | undefined> => {
    const fetched = await fetchOne(name);
    if (fetched === undefined) return undefined;
    await using file = await open(fetched.path, "r");
    await file.datasync();
    return fetched;
  };
  function begin(name: string): void {
    if (begun.has(name)) return;
    const fetching = fetchAhead(name);
    begun.set(name, fetching);
    // What is not there yet, or could not be had, is asked for again by who needs it.
    fetching.then(
      (fetched) => fetched ?? begun.delete(name),
      () => begun.delete(name),
    );
  }
  async function follow(name: string, path: string): Promise<void> {
    const size = BigInt((await stat(path)).size);
    const file = parseWalFile(name, size);
    if (file?.kind !== "segment") return;
    const next = Array.from({ length: aheadOf }, (_, index) =>
      segmentName(file.timeline, file.startLsn + BigInt(index + 1) * size, size),
    );
    // Recovery has turned to another timeline, or begins again.
    for (const [other, fetching] of begun) {
      if (next.includes(other)) continue;
      begun.delete(other);
      void fetching.then((unused) => unused && rm(unused.path, { force: true })).catch(() => {});
    }
    for (const one of next) begin(one);
  }

  return {
    async take(name) {
      const ahead = begun.get(name);
      begun.delete(name);
      const early = await ahead?.catch((error: unknown) => {
        if (!isFailure(error)) throw error;
        return undefined;
      });
      const fetched = early ?? (await fetchOne(name));
      if (fetched === undefined) return undefined;
      const { path, seen } = fetched;
      await follow(name, path);
      // Only now: what was fetched ahead may be of a timeline that the server turns away from.
      const endLsn = seen && (await watch?.admit(seen));
      if (endLsn === undefined || (await cutWal(path, name, endLsn))) return path;
      await rm(path, { force: true });
      return undefined;
    },
  };
}
