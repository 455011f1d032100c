import { realpath, stat, statfs } from "node:fs/promises";
import { join } from "node:path";
import type { StoredStream } from "@coppice/proto/gen/coppice/repository/v1/stored_object";
import { fail } from "@coppice/proto/kit/failure";
import { formatSize } from "@coppice/proto/kit/size";
import type { Sight } from "../../../host/look.ts";
import { freeBytesOf, takenBytesOf } from "../../../host/space.ts";
import type { Chain } from "../chain.ts";
import { nearestFolder } from "../owner.ts";
import { ignoreMissing } from "./ignore-missing.ts";
import { readPidOf } from "./running-server.ts";
import type { PlacedTablespace } from "./see-directory.ts";

/** What a restore finds of a file system, and puts onto it. */
export interface Room {
  /** One of the folders on it. */
  readonly folder: string;
  /** undefined where it cannot be seen. */
  readonly freeBytes: bigint | undefined;
  /** As stored: what is unpacked of it is no smaller. */
  readonly storedBytes: bigint;
}

const sizeOf = (stream: StoredStream | undefined) =>
  stream?.objects.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0n) ?? 0n;

/**
 * The file systems that a chain is unpacked onto: for each, its free bytes and what of the chain goes there. What lies in
 * the folders `removed` will be gone by then.
 */
export async function findRooms(
  { links }: Chain,
  {
    dataDirectory,
    tablespaces,
    removed,
  }: {
    readonly dataDirectory: string;
    readonly tablespaces: readonly PlacedTablespace[];
    readonly removed: readonly string[];
  },
): Promise<Room[]> {
  const places = [
    {
      folder: dataDirectory,
      // What belongs to tablespaces that are gone since is unpacked beside the data directory.
      storedBytes: links.reduce((sum, { content }) => {
        const gone = content.tablespaces.filter(({ oid }) => !tablespaces.some((each) => each.oid === oid));
        return gone.reduce((own, { stream }) => own + sizeOf(stream), sum + sizeOf(content.base) + sizeOf(content.wal));
      }, 0n),
    },
    ...tablespaces.map(({ oid, location }) => ({
      folder: location,
      storedBytes: links.reduce(
        (sum, { content }) => sum + sizeOf(content.tablespaces.find((each) => each.oid === oid)?.stream),
        0n,
      ),
    })),
  ];
  const rooms = new Map<number, Room>();
  for (const { folder, storedBytes } of places.filter((place) => place.folder.startsWith("/"))) {
    const there = await nearestFolder(folder);
    const { dev } = await stat(there);
    const known = rooms.get(dev);
    const freeBytes = known ? known.freeBytes : await freeBytesOf(join(there, "."));
    rooms.set(dev, {
      folder: known?.folder ?? folder,
      freeBytes,
      storedBytes: storedBytes + (known?.storedBytes ?? 0n),
    });
  }
  for (const folder of removed) {
    // A restore may be removing it just now.
    const dev = (await stat(folder).catch(ignoreMissing))?.dev;
    const room = dev === undefined ? undefined : rooms.get(dev);
    if (dev === undefined || room?.freeBytes === undefined) continue;
    const taken = (await takenBytesOf(folder).catch(ignoreMissing)) ?? 0n;
    rooms.set(dev, { ...room, freeBytes: room.freeBytes + taken });
  }
  return [...rooms.values()];
}

/** Free bytes of all of them; undefined where one cannot be seen. */
export function freeOf(rooms: readonly Room[]): bigint | undefined {
  return rooms.reduce<bigint | undefined>(
    (sum, { freeBytes }) => (sum === undefined || freeBytes === undefined ? undefined : sum + freeBytes),
    0n,
  );
}

/**
 * Whether there is room, `reserve` left free on the first file system. How a cluster spreads over its tablespaces is known
 * by what is stored of each, which says what is needed at least and about. Fails with SPACE_MISSING.
 */
export function seeRoom(rooms: readonly Room[], needed: bigint, reserve: bigint): Sight {
  const free = freeOf(rooms);
  if (free === undefined) return { message: "free space cannot be seen from here" };
  const kept = reserve === 0n ? "" : `, and ${formatSize(reserve)} are left to the server that runs beside`;
  const message = `${formatSize(free)} are free, and ${formatSize(needed)} are needed${kept}`;
  if (free < needed + reserve) fail("SPACE_MISSING", message);
  if (rooms.length === 1) return { message };
  const stored = rooms.reduce((sum, { storedBytes }) => sum + storedBytes, 0n);
  for (const { folder, freeBytes = 0n, storedBytes } of rooms) {
    const about = stored === 0n ? 0n : (needed * storedBytes) / stored;
    const said = `${formatSize(freeBytes)} are free for ${folder}, and about ${formatSize(about)} are needed`;
    if (freeBytes < storedBytes) fail("SPACE_MISSING", said);
    if (freeBytes < about) return { message, warning: `${said} there, by what is stored of it` };
  }
  return { message };
}

const leastReserve = 2n << 30n;
const mostReserve = 16n << 30n;

/**
 * What has to be left free beside a cluster that runs: with its disk full of our work it would stop. `live` is where its
 * data directory is, `folder` where the work goes; 0 where they do not share a file system.
 */
export async function findReserve(live: string, folder: string): Promise<bigint> {
  if (live === "" || (await readPidOf(live).catch(() => undefined)) === undefined) return 0n;
  const there = await nearestFolder(folder);
  const { dev } = await stat(there);
  const own = await Promise.all(
    [live, await realpath(join(live, "pg_wal")).catch(() => live)].map(async (path) => (await stat(path)).dev),
  );
  if (!own.includes(dev)) return 0n;
  const { blocks, bsize } = await statfs(there, { bigint: true });
  const tenth = (blocks * bsize) / 10n;
  return tenth < leastReserve ? leastReserve : tenth > mostReserve ? mostReserve : tenth;
}
