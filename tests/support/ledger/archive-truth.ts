import { chmod, mkdtemp, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseLsn } from "@coppice/proto/kit/wal/lsn";
import { segmentName, segmentStart } from "@coppice/proto/kit/wal/segment";
import { openFilesystem } from "../../../agent/src/storage/filesystem.ts";
import type { WalPlace } from "../../../agent/src/repository/layout.ts";
import { fetchWal } from "../../../agent/src/wal/fetch/fetch-wal.ts";
import { listFiles } from "../scenarios/files.ts";

/** What a server wrote, kept by the server's own archiver, and the looks at a repository that are compared with it. */
export interface ArchiveTruth extends AsyncDisposable {
  /** Settings of the server. */
  readonly settings: Readonly<Record<string, string>>;
  /**
   * Compares everything that is said to be stored with what the server wrote; gives what is wrong, and how many
   * segments were compared.
   */
  compare(archive: ComparedArchive): Promise<{ readonly wrong: string[]; readonly segments: number }>;
  /** What was in the repository at an earlier call of this, and is gone or another file now. */
  changed(repository: string): Promise<string[]>;
}

/** An archive that is compared. */
export interface ComparedArchive {
  /** Folder of the repository. */
  readonly repository: string;
  readonly place: WalPlace;
  /** Data directory of the server: what is not kept yet is there still. */
  readonly dataDir: string;
  readonly extents: readonly { readonly timeline: number; readonly startLsn: string; readonly endLsn: string }[];
}

const segmentBytes = 16n << 20n;

/** Makes a folder that a server is to archive to. */
export async function openArchiveTruth(): Promise<ArchiveTruth> {
  const folder = await mkdtemp(join(tmpdir(), "coppice-truth-"));
  await chmod(folder, 0o777);
  const seen = new Map<string, string>();

  async function written(dataDir: string, name: string): Promise<Buffer> {
    const kept = await readFile(join(folder, name)).catch(() => undefined);
    return kept ?? (await readFile(join(dataDir, "pg_wal", name)));
  }

  return {
    // Renamed when it is whole: the archiver is killed in the middle of it now and then.
    settings: {
      archive_mode: "on",
      archive_command: `cp %p ${folder}/%f.copy && mv ${folder}/%f.copy ${folder}/%f`,
    },
    async compare({ repository, place, dataDir, extents }) {
      const wrong: string[] = [];
      let segments = 0;
      await using storage = await openFilesystem(repository, "op_test");
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
    async changed(repository) {
      const now = new Map<string, string>();
      const isWal = (file: string) => file.includes("/wal/") && !file.includes("unfinished");
      for (const file of (await listFiles(repository)).filter(isWal)) {
        const found = await stat(join(repository, file)).catch(() => undefined);
        if (found) now.set(file, `${found.ino} ${found.size} ${found.mtimeMs}`);
      }
      const changed = [...seen].filter(([file, was]) => now.get(file) !== was).map(([file]) => file);
      for (const [file, is] of now) seen.set(file, is);
      return changed;
    },
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }),
  };
}
