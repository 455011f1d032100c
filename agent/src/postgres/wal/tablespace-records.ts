import { open, stat } from "node:fs/promises";
import { parseWalFile } from "@coppice/proto/kit/wal/segment";
import { type MadeTablespace, openRecordReader } from "./record-reader.ts";

/** What a segment makes, and its edges, for a record may begin in one segment and end in the next. */
export interface SegmentTablespaces {
  readonly startLsn: bigint;
  readonly endLsn: bigint;
  /** In the order of their records, those alone that begin and end in it. */
  readonly made: readonly MadeTablespace[];
  readonly firstPage: Buffer;
  readonly lastPage: Buffer;
}

const pageBytes = 8192;
const chunkBytes = 256 << 10;

/** Opens a function that finds the tablespaces that a file of WAL makes; undefined of a file that is no segment. */
export function openTablespaceFinder(): (path: string, name: string) => Promise<SegmentTablespaces | undefined> {
  // One for all files: a new one for each came to many before the garbage collector does.
  const buffer = Buffer.allocUnsafeSlow(chunkBytes);
  let turn: Promise<unknown> = Promise.resolve();

  async function find(path: string, name: string): Promise<SegmentTablespaces | undefined> {
    const segmentBytes = BigInt((await stat(path)).size);
    const file = parseWalFile(name, segmentBytes);
    if (file?.kind !== "segment") return undefined;
    const { startLsn } = file;
    const made: MadeTablespace[] = [];
    const reader = openRecordReader(segmentBytes, { onTablespace: (each) => void made.push(each) });
    let [firstPage, lastPage] = [Buffer.alloc(0), Buffer.alloc(0)];
    await using handle = await open(path, "r");
    for (let at = 0; ;) {
      const { bytesRead } = await handle.read(buffer, 0, chunkBytes, at);
      if (bytesRead === 0) break;
      const bytes = buffer.subarray(0, bytesRead);
      if (at === 0) firstPage = Buffer.from(bytes.subarray(0, pageBytes));
      reader.take(bytes, startLsn + BigInt(at));
      at += bytesRead;
      if (BigInt(at) === segmentBytes) lastPage = Buffer.from(bytes.subarray(-pageBytes));
    }
    return { startLsn, endLsn: startLsn + segmentBytes, made, firstPage, lastPage };
  }

  return async (path, name) => {
    const found = turn.then(() => find(path, name));
    turn = found.catch(() => {});
    return await found;
  };
}

/** What is made by the record that begins in a segment and ends in the one that is replayed after it. */
export function madeAcross(before: SegmentTablespaces, next: SegmentTablespaces): MadeTablespace[] {
  if (before.endLsn !== next.startLsn) return [];
  const made: MadeTablespace[] = [];
  const onTablespace = (each: MadeTablespace) => void made.push(each);
  const reader = openRecordReader(next.endLsn - next.startLsn, { onTablespace });
  reader.take(before.lastPage, before.endLsn - BigInt(before.lastPage.length));
  made.length = 0;
  reader.take(next.firstPage, next.startLsn);
  return made.filter(({ startLsn }) => startLsn < next.startLsn);
}
