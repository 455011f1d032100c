import { readdir, rename, rm, rmdir, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { syncFolder } from "../../../journal/durable-file.ts";
import { isStagingName, type Marker, stagingIn } from "../staging.ts";
import { putTablespacesBack } from "./aside.ts";
import { nameOthers, ownContent } from "./own-content.ts";
import { isOwnPlace, removeEntry, removeToken } from "./ownership.ts";
import { ignoreMissing } from "./ignore-missing.ts";

/** What became of what a restore had done, for people. */
export interface TakenBack {
  readonly removed: string[];
  /** What could not be put back as it was. */
  readonly left: string[];
}

async function isThere(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined)) !== undefined;
}

async function removeOwn(marker: Marker): Promise<void> {
  const { dataDirectory } = marker;
  const names = await ownContent(marker);
  // First what a server needs to start.
  if (names.includes("global")) await rm(join(dataDirectory, "global", "pg_control"), { force: true });
  for (const name of names) await rm(join(dataDirectory, name), { recursive: true, force: true });
}

/** What was there before comes back, unless something else has come to its place; says what could not. */
export async function putFormerBack(marker: Marker): Promise<string[]> {
  const left = await putTablespacesBack(marker);
  const { keptAs } = marker;
  return keptAs !== "" && (await isThere(keptAs)) ? [...left, ...(await putBack(marker))] : left;
}

/** What was there before and is still aside, for people. */
export async function nameFormer({ dataDirectory, keptAs, former = [] }: Marker): Promise<string[]> {
  const aside = keptAs === "" ? former : [{ location: dataDirectory, keptAs }, ...former];
  const there = await Promise.all(aside.map((each) => isThere(each.keptAs)));
  return aside.filter((_, at) => there[at]).map((each) => `what was in ${each.location} before, as ${each.keptAs}`);
}

async function putBack({ dataDirectory, keptAs }: Marker): Promise<string[]> {
  if ((await isThere(dataDirectory)) && (await readdir(dataDirectory)).length > 0)
    return [`what was in ${dataDirectory} before, as ${keptAs}: somebody has put something else into its place`];
  await rmdir(dataDirectory).catch(ignoreMissing);
  await rename(keptAs, dataDirectory);
  await syncFolder(dirname(dataDirectory));
  return [];
}

async function takeOutOfPlace(marker: Marker): Promise<TakenBack> {
  const { dataDirectory, keptAs, madeFolder, entries } = marker;
  const isOwn = await isOwnPlace(marker);
  if (isOwn) await removeOwn(marker);
  let count = isOwn ? 1 : 0;
  for (const entry of entries)
    if (!entry.path.startsWith(`${dataDirectory}/`)) count += (await removeEntry(entry)) ? 1 : 0;
  const others = isOwn ? await nameOthers(marker) : [];
  if (isOwn) {
    await removeToken(marker);
    if (madeFolder && keptAs === "") await rmdir(dataDirectory).catch(ignoreFilled);
  }
  const removed = count > 0 ? [`what was restored into ${dataDirectory}`] : [];
  return { removed, left: [...others, ...(await putFormerBack(marker))] };
}

/**
 * Takes back whatever a restore has done that did not come to its end: its files go, the former ones come back. What
 * others have put into its place meanwhile stays. Of one that is done only staging folder and token go. The server must
 * not run any more.
 */
export async function takeBack(staging: string, marker: Marker): Promise<TakenBack> {
  const { tablespaces, operationId, state, alsoStaged = [], madeLocations = [] } = marker;
  const taken: TakenBack = state === "placing" ? await takeOutOfPlace(marker) : { removed: [], left: [] };
  if (state === "done") await removeToken(marker);
  else taken.removed.push(`the staging folder ${staging}`);
  const staged = [...tablespaces.map((tablespace) => stagingIn(tablespace, operationId)), ...alsoStaged];
  for (const folder of staged) if (isStagingName(basename(folder))) await rm(folder, { recursive: true, force: true });
  // Where something is of others by now it stays.
  if (state !== "done") for (const location of madeLocations) await rmdir(location).catch(() => {});
  await rm(staging, { recursive: true, force: true });
  return taken;
}

function ignoreFilled(error: unknown): undefined {
  if (error instanceof Error && "code" in error && (error.code === "ENOTEMPTY" || error.code === "EEXIST")) return;
  ignoreMissing(error);
}
