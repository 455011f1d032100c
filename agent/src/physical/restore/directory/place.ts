import { chmod, readdir, rename, rmdir, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { Failure } from "@coppice/proto/kit/failure";
import type { OsUser } from "../../../host/os-user.ts";
import { syncFolder } from "../../../journal/durable-file.ts";
import { moveTablespacesAside } from "./aside.ts";
import { entryOf, moveEntry, putToken } from "./ownership.ts";
import { isLink, type WantedTablespace, requireNoServer, seeDirectory, seeTablespace } from "./see-directory.ts";
import { linkTablespaces, requireFolder, type Staged, stagedTablespace } from "../stage-backup.ts";
import { type Marker, writeMarker } from "../staging.ts";

/** Where what is staged goes. */
export interface Placing {
  readonly owner: OsUser;
  readonly tablespaces: readonly WantedTablespace[];
  readonly marker: Marker;
  readonly staging: string;
}

/**
 * Looks once more whether the places are as they were hours ago, before the first of them is touched. Fails as
 * seeDirectory and seeTablespace.
 */
async function lookAgain({ tablespaces, marker: { dataDirectory, keptAs, former = [] } }: Placing): Promise<void> {
  await seeDirectory({ dataDirectory, replace: keptAs !== "" }, []);
  const folders = [dataDirectory, ...tablespaces.map(({ location }) => location)];
  for (const tablespace of tablespaces) {
    const isFormer = former.some(({ location }) => location === tablespace.location);
    await seeTablespace(tablespace, folders, isFormer ? dataDirectory : undefined);
  }
}

/** Moves the former content aside. Fails with SERVER_RUNNING where a server has begun to work in it; then it is back. */
async function moveAside({ dataDirectory, keptAs }: Marker): Promise<void> {
  await rename(dataDirectory, keptAs);
  try {
    await requireNoServer(keptAs);
  } catch (error) {
    await rename(keptAs, dataDirectory);
    throw error;
  }
}

/** All of it at once, which works only where nothing is. */
async function moveWhole(from: string, dataDirectory: string): Promise<void> {
  try {
    await rename(from, dataDirectory);
  } catch (cause) {
    const code = cause instanceof Error && "code" in cause ? String(cause.code) : "";
    if (!["ENOTEMPTY", "EEXIST", "ENOTDIR"].includes(code)) throw cause;
    throw new Failure("DIRECTORY_NOT_EMPTY", `somebody has put something into ${dataDirectory} meanwhile`, { cause });
  }
}

/**
 * Moves what is staged into its place; `pg_control`, without which no server starts, as the very last. Nothing that is
 * there is overwritten, and what is moved is known again by whoever takes it back: the data directory by a token, the
 * rest by inodes. Gives the marker that was written before the first place was touched. Fails with DIRECTORY_NOT_EMPTY
 * and SERVER_RUNNING.
 */
export async function putIntoPlace(staged: Staged, placing: Placing): Promise<Marker> {
  const { owner, tablespaces, staging } = placing;
  const { dataDirectory, keptAs } = placing.marker;
  const control = join(staging, "pg_control");
  const sources = await Promise.all(
    tablespaces.map(async (each) => ({ ...each, from: await stagedTablespace(staged, each) })),
  );
  await linkTablespaces(staged.data, tablespaces, owner);
  const mode = (await stat(staged.data)).mode & 0o750;
  await chmod(staged.data, mode);
  await rename(join(staged.data, "global", "pg_control"), control);
  await lookAgain(placing);
  // A file system of its own cannot be renamed onto, and what a link names not by the link.
  const isWhole = dirname(staging) !== dataDirectory && (keptAs !== "" || !(await isLink(dataDirectory)));
  const moves: { readonly from: string; readonly to: string }[] = [];
  const folders = sources.map(({ from, location }) => ({ from, to: location }));
  if (!isWhole) folders.push({ from: staged.data, to: dataDirectory });
  for (const { from, to } of folders)
    for (const name of await readdir(from)) moves.push({ from: join(from, name), to: join(to, name) });
  const marker: Marker = {
    ...placing.marker,
    state: "placing",
    placement: isWhole ? "whole" : "entries",
    entries: await Promise.all(moves.map(({ from, to }) => entryOf(from, to))),
  };
  if (isWhole) await putToken(staged.data, marker, owner);
  await writeMarker(staging, marker);
  if (keptAs !== "") await moveAside(marker);
  await moveTablespacesAside(marker);
  if (!isWhole) {
    await requireFolder(dataDirectory, owner);
    await putToken(dataDirectory, marker, owner);
    await chmod(dataDirectory, mode);
  }
  for (const { from, to } of moves) await moveEntry(from, to);
  for (const { to } of folders) await syncFolder(to);
  if (isWhole) await moveWhole(staged.data, dataDirectory);
  else await rmdir(staged.data);
  await rename(control, join(dataDirectory, "global", "pg_control"));
  await syncFolder(join(dataDirectory, "global"));
  await syncFolder(dataDirectory);
  await syncFolder(dirname(dataDirectory));
  return marker;
}
