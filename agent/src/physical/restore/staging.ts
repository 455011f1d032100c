import { chown, lstat, mkdir, readdir, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import type { OsUser } from "../../host/os-user.ts";
import { replaceFile } from "../../journal/durable-file.ts";
import type { MovedEntry } from "./directory/ownership.ts";
import type { PlacedTablespace } from "./directory/see-directory.ts";
import { readIfThere } from "./settings/configuration.ts";
import { ignoreMissing } from "./directory/ignore-missing.ts";

/** What another try has to know of what was unpacked. */
export interface UnpackedBefore {
  /** Ids of the backups it was made of. */
  readonly chain: readonly string[];
  /** What the server was to recover to: JSON. */
  readonly target: string;
  readonly tablespaces: readonly PlacedTablespace[];
  /** Where the content of each tablespace lies, in the same order. */
  readonly staged: readonly string[];
  readonly files: number;
  /** As a decimal number. */
  readonly bytes: string;
  readonly warnings: readonly string[];
}

/** A tablespace of the cluster that is replaced, and where its former content is, or will be. */
export interface FormerTablespace {
  readonly location: string;
  readonly keptAs: string;
}

/** What is known of a restore that has begun, durably. */
export interface Marker {
  readonly operationId: string;
  readonly dataDirectory: string;
  /** Places of tablespaces. */
  readonly tablespaces: readonly string[];
  /** Whether the data directory was made by the restore. */
  readonly madeFolder: boolean;
  /** Places of tablespaces that were made by the restore. */
  readonly madeLocations?: readonly string[];
  /** Where the former content is, or will be. */
  readonly keptAs: string;
  /**
   * `unpacking`: nothing outside of staging folders was touched. `placing`: it may have been. `done`: it stays. `kept`:
   * it has failed, and what was unpacked waits in staging folders for another try.
   */
  readonly state: "unpacking" | "placing" | "done" | "kept";
  /** By which the data directory is known as this restore's. */
  readonly token: string;
  /** Whether the data directory comes to its place by one rename, or each of its entries by one. */
  readonly placement: "whole" | "entries";
  /** What is moved by renames of its own. */
  readonly entries: readonly MovedEntry[];
  /** Whether its server may have been started: what that has made and written anew is the restore's, too. */
  readonly wasStarted?: boolean;
  /** The result, where nothing but placing is left to do, or all is done: JSON. */
  readonly result?: string;
  /** Position that recovery has to reach, where one is known. */
  readonly expectedEnd?: string;
  readonly former?: readonly FormerTablespace[];
  /** Where it is to be kept when it fails. */
  readonly unpacked?: UnpackedBefore;
  /** Staging folders of tablespaces by the name of an earlier try. */
  readonly alsoStaged?: readonly string[];
}

const prefix = ".coppice-restore-";
const markerName = "restore.json";
const isRoot = () => process.geteuid?.() === 0;

/** A folder's staging folder for an operation: in it, because it may be a file system of its own. */
export function stagingIn(folder: string, operationId: string): string {
  return join(folder, `${prefix}${operationId.replaceAll(/[^0-9A-Za-z_-]/g, "_")}`);
}

/** Whether a name in a folder is one of a staging folder. */
export function isStagingName(name: string): boolean {
  return name.startsWith(prefix);
}

/** Where the data directory is staged: beside it, or in it where it is a file system of its own. */
export async function dataStaging(dataDirectory: string, operationId: string): Promise<string> {
  const parent = dirname(dataDirectory);
  const [own, above] = await Promise.all([dataDirectory, parent].map((path) => stat(path).catch(ignoreMissing)));
  if (own && above && own.dev !== above.dev) return stagingIn(dataDirectory, operationId);
  return `${stagingIn(parent, operationId)}-${basename(dataDirectory)}`;
}

/** Makes a folder (0700) of the server's user; those above it that are missing too. */
export async function makeOwned(folder: string, { uid, gid }: OsUser): Promise<void> {
  const made = await mkdir(folder, { recursive: true, mode: 0o700 });
  if (made === undefined || !isRoot()) return;
  for (let path = folder; path.length >= made.length; path = dirname(path)) await chown(path, uid, gid);
}

/** Writes down how far a restore is. */
export async function writeMarker(staging: string, marker: Marker): Promise<void> {
  // By its owner it is known as the agent's own.
  await replaceFile(join(staging, markerName), JSON.stringify(marker), { isWritersOwn: true });
}

/** What was written down, undefined when nothing was. */
export async function readMarker(staging: string): Promise<Marker | undefined> {
  const text = await readIfThere(join(staging, markerName));
  return text === undefined ? undefined : (JSON.parse(text) as Marker);
}

/** As readMarker, of one that this agent has written: the folder is the server's user's, who may have put another there. */
export async function readOwnMarker(staging: string): Promise<Marker | undefined> {
  const seen = await lstat(join(staging, markerName)).catch(ignoreMissing);
  return seen?.isFile() && seen.uid === process.geteuid?.() ? await readMarker(staging) : undefined;
}

async function listIfThere(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return [];
    throw error;
  }
}

/** What lies in a folder, staging folders left out; empty also where there is no folder. */
export async function listContent(folder: string): Promise<string[]> {
  return (await listIfThere(folder)).filter((name) => !isStagingName(name));
}

/** A staging folder, and how far its restore is, or was when it was cut off. */
export interface Staging {
  readonly staging: string;
  readonly marker: Marker;
}

/** The staging folders of a data directory that this agent has made, whosever restore they are; they belong to those users. */
export async function findStagings(dataDirectory: string, uids: readonly number[]): Promise<Staging[]> {
  const parent = dirname(dataDirectory);
  const beside = (await readdir(parent).catch(() => [])).filter((name) => name.endsWith(`-${basename(dataDirectory)}`));
  const inside = await readdir(dataDirectory).catch(() => []);
  const folders = [...beside.map((name) => join(parent, name)), ...inside.map((name) => join(dataDirectory, name))];
  const found: Staging[] = [];
  for (const staging of folders.filter((folder) => isStagingName(basename(folder)))) {
    const seen = await lstat(staging);
    if (!seen.isDirectory() || !uids.includes(seen.uid)) continue;
    const marker = await readOwnMarker(staging);
    if (marker?.dataDirectory === dataDirectory) found.push({ staging, marker });
  }
  return found;
}
