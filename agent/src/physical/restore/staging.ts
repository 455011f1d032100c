import { chown, mkdir, readdir, rename, rm, rmdir, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import type { OsUser } from "../../host/os-user.ts";
import { replaceFile, syncFolder } from "../../journal/durable-file.ts";
import { readIfThere } from "./settings/configuration.ts";

/** What is known of a restore that has begun, durably. */
export interface Marker {
  readonly operationId: string;
  readonly dataDirectory: string;
  /** Places of tablespaces. */
  readonly tablespaces: readonly string[];
  /** Whether the data directory was made by the restore. */
  readonly madeFolder: boolean;
  /** Where the former content is, or will be. */
  readonly keptAs: string;
  /** `unpacking`: nothing outside of staging folders was touched. `placing`: it may have been. `done`: it stays. */
  readonly state: "unpacking" | "placing" | "done";
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
  await replaceFile(join(staging, markerName), JSON.stringify(marker));
}

/** What was written down, undefined when nothing was. */
export async function readMarker(staging: string): Promise<Marker | undefined> {
  const text = await readIfThere(join(staging, markerName));
  return text === undefined ? undefined : (JSON.parse(text) as Marker);
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

async function removeContent(folder: string): Promise<void> {
  const names = await listContent(folder);
  // First what a server needs to start.
  await rm(join(folder, "global", "pg_control"), { force: true });
  for (const name of names) await rm(join(folder, name), { recursive: true, force: true });
}

/** Moves everything of a folder into another of the same file system. */
export async function moveContent(from: string, to: string): Promise<void> {
  for (const name of await readdir(from)) await rename(join(from, name), join(to, name));
  await syncFolder(to);
}

/**
 * Takes back whatever a restore has done that did not come to its end: its files go, the former ones come back. Of one
 * that is done only the staging folder goes. The server must not run any more. Gives what was removed, for people.
 */
export async function takeBack(staging: string, marker: Marker): Promise<string[]> {
  const { dataDirectory, tablespaces, keptAs, madeFolder, operationId, state } = marker;
  const removed: string[] = [];
  if (state === "placing") {
    const wasMoved = keptAs === "" || (await stat(keptAs).catch(() => undefined)) !== undefined;
    // With its former content still in its place it was not touched yet.
    if (wasMoved) {
      await removeContent(dataDirectory);
      for (const tablespace of tablespaces) await removeContent(tablespace);
      removed.push(`what was restored into ${dataDirectory}`);
      if (keptAs !== "" || madeFolder) await rmdir(dataDirectory).catch(ignoreMissing);
      if (keptAs !== "") await rename(keptAs, dataDirectory);
      await syncFolder(dirname(dataDirectory));
    }
  }
  if (state !== "done") removed.push(`the staging folder ${staging}`);
  for (const tablespace of tablespaces) await rm(stagingIn(tablespace, operationId), { recursive: true, force: true });
  await rm(staging, { recursive: true, force: true });
  return removed;
}

function ignoreMissing(error: unknown): undefined {
  if (!(error instanceof Error && "code" in error && error.code === "ENOENT")) throw error;
}

/** The process of a server that runs in a data directory. A file that a crash has left names none, or another program. */
export async function readPidOf(dataDirectory: string): Promise<number | undefined> {
  const pid = Number((await readIfThere(join(dataDirectory, "postmaster.pid")))?.split("\n")[0]);
  if (!Number.isInteger(pid) || pid <= 0) return undefined;
  const name = (await readIfThere(`/proc/${pid}/comm`).catch(() => undefined))?.trim();
  if (name !== "postgres" && name !== "postmaster") return undefined;
  const state = (await readIfThere(`/proc/${pid}/stat`).catch(() => undefined))?.split(") ").at(-1)?.[0];
  return state === undefined || state === "Z" ? undefined : pid;
}
