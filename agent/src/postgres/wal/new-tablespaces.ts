import { open, readdir, readlink, stat } from "node:fs/promises";
import { join } from "node:path";
import { Failure } from "@coppice/proto/kit/failure";
import { formatLsn } from "@coppice/proto/kit/wal/lsn";
import { parseWalFile } from "@coppice/proto/kit/wal/segment";
import { type MadeTablespace, openRecordReader, type RecordReader } from "./record-reader.ts";

/** The server that replays WAL. */
export interface ReplayingServer {
  readonly dataDirectory: string;
  /** Whether it is there for an agent alone, which takes it down again: it must write nowhere else at all. */
  readonly isScratch: boolean;
}

/**
 * Watches for tablespaces that WAL makes. Replayed, such a record makes the link to the folder of the server that wrote it,
 * which may be the living one's: recovery would write into its tables. A backup's own tablespaces are placed, those that are
 * made after it cannot be.
 */
export interface TablespaceWatch {
  /** The first record that must not be replayed here, of all that was looked through. */
  readonly refused: { readonly startLsn: bigint; readonly failure: Failure } | undefined;
  /** Looks through the file of WAL at the path, which follows the one before; other files than segments hold no records. */
  look(path: string, name: string): Promise<void>;
}

const chunkBytes = 256 << 10;

/** Opens one for the WAL that one server replays. */
export function openTablespaceWatch({ dataDirectory, isScratch }: ReplayingServer): TablespaceWatch {
  const allowed = new Set<string>();
  let refused: TablespaceWatch["refused"];
  let found: MadeTablespace[] = [];
  let reader: RecordReader | undefined;
  // One for all files: a new one for each came to many before the garbage collector does.
  const buffer = Buffer.allocUnsafeSlow(chunkBytes);

  /** Its own, by a link of an earlier replay of the same record for example, or nobody's. */
  async function isFree({ location }: MadeTablespace): Promise<boolean> {
    if (location === "" || allowed.has(location)) return true;
    if (isScratch) return false;
    if ((await ownLocations(dataDirectory)).includes(location)) return true;
    return await readdir(location).then(
      (entries) => entries.length === 0,
      () => false,
    );
  }
  async function judge(made: MadeTablespace): Promise<void> {
    if (await isFree(made)) allowed.add(made.location);
    else refused ??= { startLsn: made.startLsn, failure: refusal(made, isScratch) };
  }

  return {
    get refused() {
      return refused;
    },
    async look(path, name) {
      const segmentBytes = BigInt((await stat(path)).size);
      const file = parseWalFile(name, segmentBytes);
      if (file?.kind !== "segment") return;
      reader ??= openRecordReader(segmentBytes, { onTablespace: (made) => void found.push(made) });
      await using handle = await open(path, "r");
      for (let at = 0; ;) {
        const { bytesRead } = await handle.read(buffer, 0, chunkBytes, at);
        if (bytesRead === 0) break;
        reader.take(buffer.subarray(0, bytesRead), file.startLsn + BigInt(at));
        at += bytesRead;
      }
      const made = found;
      found = [];
      for (const each of made) await judge(each);
    },
  };
}

async function ownLocations(dataDirectory: string): Promise<(string | undefined)[]> {
  const folder = join(dataDirectory, "pg_tblspc");
  const links = await readdir(folder).catch(() => []);
  return await Promise.all(links.map((link) => readlink(join(folder, link)).catch(() => undefined)));
}

function refusal({ location, startLsn }: MadeTablespace, isScratch: boolean): Failure {
  const elsewhere = isScratch
    ? ""
    : `, restore where ${location} is an empty folder of the server's user that nobody else has,`;
  return new Failure(
    "TABLESPACE_NOT_IN_BACKUP",
    `a tablespace was made at ${location} after the backup, at ${formatLsn(startLsn)}: replaying that would write into that folder`,
    {
      hint: `choose a target before ${formatLsn(startLsn)}${elsewhere} or begin with a backup that was taken later: the tablespaces that it has can be placed anywhere`,
      metadata: { location },
    },
  );
}
