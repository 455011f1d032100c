import { readdir, readFile, readlink, realpath } from "node:fs/promises";
import { join, normalize } from "node:path";
import { Failure } from "@coppice/proto/kit/failure";
import { formatLsn, parseLsn } from "@coppice/proto/kit/wal/lsn";
import type { MadeTablespace } from "./record-reader.ts";
import { madeAcross, openTablespaceFinder, type SegmentTablespaces } from "./tablespace-records.ts";

/** The server that replays WAL. */
export interface ReplayingServer {
  readonly dataDirectory: string;
  /** Whether it is there for an agent alone, which takes it down again: it must write nowhere else at all. */
  readonly isScratch: boolean;
  /** Where its tablespaces will be; where its links lead when left out. */
  readonly tablespaces?: readonly OwnTablespace[];
}

/** A tablespace of the server, at its place. */
export interface OwnTablespace {
  readonly oid: number;
  readonly location: string;
}

/**
 * Watches for tablespaces that WAL makes. Replayed, such a record makes the link to the folder of the server that wrote it,
 * which may be the living one's: recovery would write into its tables. A backup's own tablespaces are placed, those that are
 * made after it cannot be.
 */
export interface TablespaceWatch {
  /** Why the server was not given what it would replay now; undefined while it was, or has gone on by other WAL since. */
  readonly refused: Failure | undefined;
  /** Looks through a file of WAL; in any order, for a file may be fetched and never be asked for. Undefined but of segments. */
  look(path: string, name: string): Promise<SegmentTablespaces | undefined>;
  /**
   * Where a segment has to end that the server replays next, after those that were admitted before: the first record that
   * must not be replayed; undefined where all may be.
   */
  admit(segment: SegmentTablespaces): Promise<bigint | undefined>;
}

/** Opens one for the WAL that one server replays. */
export function openTablespaceWatch(server: ReplayingServer): TablespaceWatch {
  const { dataDirectory, isScratch } = server;
  const allowed = new Set<string>();
  const look = openTablespaceFinder();
  let refused: { readonly segment: SegmentTablespaces; readonly failure: Failure } | undefined;
  let before: SegmentTablespaces | undefined;
  let firstLsn: bigint | undefined;

  /** Why a record must not be replayed. */
  async function judge(made: MadeTablespace): Promise<Failure | undefined> {
    const { oid, location } = made;
    if (location === "" || allowed.has(location)) return undefined;
    const own = server.tablespaces ?? (await linkedTablespaces(dataDirectory));
    // By a link of an earlier replay of the same record, for example, it is its own.
    const place = await placeOf(location);
    const places = await Promise.all(own.map((each) => placeOf(each.location)));
    const isOwn = places.includes(place);
    const moved = isOwn ? undefined : own.find((each) => each.oid === oid);
    if (moved) return remade(made, moved);
    if (!isOwn && (isScratch || !(await isEmpty(location)))) return taken(made, isScratch);
    allowed.add(location);
    return undefined;
  }

  return {
    get refused() {
      return refused?.failure;
    },
    look,
    async admit(segment) {
      firstLsn ??= await replayStart(dataDirectory);
      const all = [...(before ? madeAcross(before, segment) : []), ...segment.made];
      for (const made of all) {
        // The first segment holds what the backup has.
        if (made.startLsn < firstLsn) continue;
        const failure = await judge(made);
        if (failure === undefined) continue;
        refused = { segment, failure };
        // Asked for again, what a record of the one before goes on in is refused again.
        if (made.startLsn >= segment.startLsn) before = segment;
        return made.startLsn;
      }
      before = segment;
      if (refused && segment.endLsn >= refused.segment.endLsn) refused = undefined;
      return undefined;
    },
  };
}

/** Where recovery of a backup begins, by the label that PostgreSQL puts aside when it has read it; zero without one. */
async function replayStart(dataDirectory: string): Promise<bigint> {
  for (const name of ["backup_label", "backup_label.old"]) {
    const label = await readFile(join(dataDirectory, name), "utf8").catch(() => "");
    const start = /^START WAL LOCATION: ([0-9A-F]+\/[0-9A-F]+)/m.exec(label)?.[1];
    if (start !== undefined) return parseLsn(start);
  }
  return 0n;
}

async function linkedTablespaces(dataDirectory: string): Promise<OwnTablespace[]> {
  const folder = join(dataDirectory, "pg_tblspc");
  const links = await readdir(folder).catch(() => []);
  const read = async (link: string) => ({
    oid: Number(link),
    location: await readlink(join(folder, link)).catch(() => ""),
  });
  return await Promise.all(links.map(read));
}

/** A folder by one name, whatever links or slashes lead to it. */
async function placeOf(location: string): Promise<string> {
  return await realpath(location).catch(() => normalize(location).replace(/(.)\/+$/, "$1"));
}

async function isEmpty(folder: string): Promise<boolean> {
  return await readdir(folder).then(
    (entries) => entries.length === 0,
    () => false,
  );
}

/** The last record before it is a target that recovery can see. */
const upTo = ({ prevLsn }: MadeTablespace) => `recover to what was before it: LSN ${formatLsn(prevLsn)}`;

function taken(made: MadeTablespace, isScratch: boolean): Failure {
  const { location, startLsn } = made;
  const elsewhere = isScratch
    ? ""
    : `, restore where ${location} is an empty folder of the server's user that nobody else has,`;
  return new Failure(
    "TABLESPACE_NOT_IN_BACKUP",
    `a tablespace was made at ${location} after the backup, at ${formatLsn(startLsn)}: replaying that would write into that folder`,
    {
      hint: `${upTo(made)}${elsewhere} or begin with a backup that was taken later: the tablespaces that it has can be placed anywhere`,
      metadata: { location },
    },
  );
}

function remade(made: MadeTablespace, { location: place }: OwnTablespace): Failure {
  const { oid, location, startLsn } = made;
  return new Failure(
    "TABLESPACE_NOT_IN_BACKUP",
    `the tablespace ${oid} was made at ${location} while the backup was taken, at ${formatLsn(startLsn)}: replaying that would make it there again, and not at ${place}`,
    {
      hint: `restore it to ${location}, or begin with a backup that was taken later: the tablespaces that it has can be placed anywhere`,
      metadata: { location },
    },
  );
}
