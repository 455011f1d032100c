import { chmod, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseLsn } from "@coppice/proto/kit/wal/lsn";
import { segmentName, segmentStart } from "@coppice/proto/kit/wal/segment";
import type { Storage } from "../../../agent/src/storage/storage.ts";
import type { WalPlace } from "../../../agent/src/repository/layout.ts";
import { fetchWal } from "../../../agent/src/wal/fetch/fetch-wal.ts";

/** How a server's WAL gets to the agent. */
export type LedgerMode = "stream" | "push";

/** What a server wrote, kept by the server itself, and the looks at a repository that are compared with it. */
export interface ArchiveTruth extends AsyncDisposable {
  /** Settings of the server. */
  readonly settings: Readonly<Record<string, string>>;
  /**
   * Compares everything that is said to be stored with what the server wrote; gives what is wrong, and how many
   * segments were compared.
   */
  compare(archive: ComparedArchive): Promise<{ readonly wrong: string[]; readonly segments: number }>;
  /** What of the WAL was in the repository at an earlier call of this, and is gone or another object now. */
  changed(portrait: ReadonlyMap<string, string>): string[];
}

/** An archive that is compared. */
export interface ComparedArchive {
  readonly storage: Storage;
  readonly place: WalPlace;
  /** Data directory of the server: what is not kept yet is there still. */
  readonly dataDir: string;
  readonly extents: readonly { readonly timeline: number; readonly startLsn: string; readonly endLsn: string }[];
}

const segmentBytes = 16n << 20n;

/**
 * Makes a folder that a server is to archive to by its own command, or, where that command is the agent's, has it keep all
 * of its WAL.
 */
export async function openArchiveTruth(mode: LedgerMode): Promise<ArchiveTruth> {
  const folder = await mkdtemp(join(tmpdir(), "coppice-truth-"));
  await chmod(folder, 0o777);
  const seen = new Map<string, string>();

  async function written(dataDir: string, name: string): Promise<Buffer> {
    const kept = await readFile(join(folder, name)).catch(() => undefined);
    return kept ?? (await readFile(join(dataDir, "pg_wal", name)));
  }

  return {
    settings: {
      archive_mode: "on",
      ...(mode === "push"
        ? { wal_keep_size: "64GB" }
        : // Renamed when it is whole: the archiver is killed in the middle of it now and then.
          { archive_command: `cp %p ${folder}/%f.copy && mv ${folder}/%f.copy ${folder}/%f` }),
    },
    async compare({ storage, place, dataDir, extents }) {
      const wrong: string[] = [];
      let segments = 0;
      const scratch = join(folder, "fetched");
      for (const extent of extents) {
        const endLsn = parseLsn(extent.endLsn);
        const first = segmentStart(parseLsn(extent.startLsn), segmentBytes);
        for (let lsn = first; lsn < endLsn; lsn += segmentBytes) {
          const name = segmentName(extent.timeline, lsn, segmentBytes);
          const isThere = await fetchWal(storage, { place, name, signal: AbortSignal.timeout(60_000) }, scratch);
          if (!isThere) {
            wrong.push(`${name} is said to be stored, and is not there`);
            continue;
          }
          const stored = await readFile(scratch);
          await rm(scratch);
          const said = Number(endLsn - lsn < segmentBytes ? endLsn - lsn : segmentBytes);
          const truth = await written(dataDir, name);
          if (!stored.subarray(0, said).equals(truth.subarray(0, said))) wrong.push(`${name} holds other bytes`);
          segments += 1;
        }
      }
      return { wrong, segments };
    },
    changed(portrait) {
      const changed = [...seen].filter(([key, was]) => portrait.get(key) !== was).map(([key]) => key);
      const isWal = (key: string) => key.includes("/wal/") && !key.includes("unfinished");
      for (const [key, is] of portrait) if (isWal(key)) seen.set(key, is);
      return changed;
    },
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }),
  };
}
