import { access, constants, lstat, readdir, realpath, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fail } from "@coppice/proto/kit/failure";
import type { Sight } from "../../../host/look.ts";
import { nearestFolder } from "../owner.ts";
import { listContent } from "../staging.ts";
import { isFormerTablespace, tablespacesOf } from "./aside.ts";
import { isRepository, requireMovable } from "./movable.ts";
import { runningServers, seeServer } from "./running-server.ts";

/** A tablespace of the backup and its new place. */
export interface PlacedTablespace {
  readonly oid: number;
  readonly location: string;
}

/** A tablespace where a command wants it. */
export interface WantedTablespace extends PlacedTablespace {
  /** Whether somebody has named the place. */
  readonly isNamed: boolean;
}

async function statIfThere(path: string) {
  return await stat(path).catch((error: unknown) => {
    if (error instanceof Error && "code" in error && (error.code === "ENOENT" || error.code === "ENOTDIR"))
      return undefined;
    throw error;
  });
}

/**
 * Fails with INVALID_FIELD for a folder that lies in the data directory of a cluster, whose backups would hold it too, or
 * in a repository.
 */
async function requireOutside(folder: string): Promise<void> {
  const there = await nearestFolder(folder);
  // Of the folder itself others say whether it is empty.
  const first = there === folder ? dirname(await realpath(there)) : await realpath(there);
  for (let above = first; above !== "/"; above = dirname(above)) {
    const hint = "name a folder outside of it";
    if (await statIfThere(join(above, "global/pg_control")))
      fail("INVALID_FIELD", `${folder} lies in ${above}, the data directory of a cluster`, { hint });
    if (await isRepository(above, await readdir(above).catch(() => [])))
      fail("INVALID_FIELD", `${folder} lies in ${above}, a repository of backups`, { hint });
  }
}

/** Fails with SERVER_RUNNING where a server runs in the directory, or one may that cannot be seen from here. */
export async function requireNoServer(dataDirectory: string): Promise<void> {
  const seen = await seeServer(dataDirectory);
  if (seen.kind === "running")
    fail("SERVER_RUNNING", `a server runs in ${dataDirectory} as process ${seen.pid}`, { hint: "stop it first" });
  if (seen.kind === "unseen")
    fail(
      "SERVER_RUNNING",
      `${dataDirectory}/postmaster.pid names process ${seen.pid}, which is no server of it on this host: one in a container or on another host may be`,
      { hint: "when you are sure that none runs, remove that file" },
    );
}

/** Fails with SERVER_RUNNING where a server that runs here has a tablespace in the folder. */
async function requireUnused(location: string): Promise<void> {
  const place = await realpath(location);
  for (const { pid, dataDirectory } of await runningServers())
    if ((await tablespacesOf(dataDirectory)).includes(place))
      fail("SERVER_RUNNING", `the server in ${dataDirectory}, process ${pid}, has a tablespace in ${location}`, {
        hint: "give the tablespace another folder: --tablespace OLD=NEW",
      });
}

async function requireWritable(folder: string, what: string): Promise<void> {
  try {
    await access(folder, constants.W_OK | constants.X_OK);
  } catch (cause) {
    const code = cause instanceof Error && "code" in cause ? String(cause.code) : "";
    if (code !== "EACCES" && code !== "EROFS" && code !== "EPERM") throw cause;
    const why = code === "EROFS" ? "the file system is read-only" : "its user may not";
    fail("FILE_NOT_WRITABLE", `the agent cannot write into ${folder}, ${what}: ${why}`, {
      hint: `let the agent's user write there, or name another folder`,
      cause,
    });
  }
}

/**
 * Whether the folder can be had as the command says; `needed` is what has to stay where it is. Fails with SERVER_RUNNING,
 * DIRECTORY_NOT_EMPTY, FILE_NOT_WRITABLE, NOT_SUPPORTED or INVALID_FIELD.
 */
export async function seeDirectory(
  { dataDirectory, replace }: { readonly dataDirectory: string; readonly replace: boolean },
  needed: readonly string[],
): Promise<Sight> {
  if (dataDirectory === "/" || dataDirectory.split("/").includes(".."))
    fail("INVALID_FIELD", `${dataDirectory} cannot be a data directory`);
  if (/["`$\n]|\\\\|\\$/.test(dataDirectory))
    fail("INVALID_FIELD", `pg_ctl cannot start a server in ${JSON.stringify(dataDirectory)}`, {
      hint: 'name a folder without ", `, $, line ends, and backslashes in a row or at the end',
    });
  await requireOutside(dataDirectory);
  const found = await statIfThere(dataDirectory);
  if (!found) {
    await requireWritable(await nearestFolder(dataDirectory), `where ${dataDirectory} is to be made`);
    return { message: `${dataDirectory} will be made` };
  }
  if (!found.isDirectory()) fail("DIRECTORY_NOT_EMPTY", `${dataDirectory} is no folder`);
  await requireNoServer(dataDirectory);
  const parent = dirname(dataDirectory);
  const isOwnFileSystem = found.dev !== (await stat(parent)).dev;
  const staged = isOwnFileSystem ? dataDirectory : parent;
  const names = await listContent(dataDirectory);
  if (names.length > 0 && !replace)
    fail("DIRECTORY_NOT_EMPTY", `${dataDirectory} is not empty: it holds ${names.slice(0, 3).join(", ")}`);
  await requireWritable(staged, "where everything is unpacked first");
  if (names.length === 0) return { message: `${dataDirectory} is empty` };
  if (isOwnFileSystem)
    fail("NOT_SUPPORTED", `${dataDirectory} is a file system of its own and cannot be moved aside`, {
      hint: "empty it, or restore into another folder",
    });
  await requireMovable(dataDirectory, needed);
  return { message: `what is in ${dataDirectory} is moved aside` };
}

/**
 * Whether a tablespace's folder can be had: empty, or named and that of a tablespace of the cluster in `replaced`, which is
 * moved aside with it. Fails as seeDirectory, and with SELECTION_REFUSED.
 */
export async function seeTablespace(
  { oid, location, isNamed }: WantedTablespace,
  folders: readonly string[],
  replaced: string | undefined,
): Promise<Sight> {
  if (!location.startsWith("/") || location.split("/").includes(".."))
    fail("NOT_SUPPORTED", `the tablespace ${oid} lies in ${location}, inside the data directory`, {
      hint: "give it a folder of its own",
    });
  const clash = folders.filter(
    (folder) => `${location}/`.startsWith(`${folder}/`) || `${folder}/`.startsWith(`${location}/`),
  );
  if (clash.length > 1)
    fail("SELECTION_REFUSED", `the folder ${location} lies in another folder of the restore`, {
      hint: "give the tablespace a folder of its own, outside of the data directory: --tablespace OLD=NEW",
    });
  await requireOutside(location);
  const names = await listContent(location);
  if (names.length > 0) {
    if (replaced === undefined || !(await isFormerTablespace(location, replaced)))
      fail("DIRECTORY_NOT_EMPTY", `the folder ${location} of the tablespace ${oid} is not empty`, {
        hint: "empty it, or give the tablespace another folder: --tablespace OLD=NEW; with --replace what belongs to the cluster that is replaced is moved aside, where nothing of another server lies beside it",
      });
    await requireUnused(location);
    // A copy of a cluster has the very links of the one that it was copied of.
    if (!isNamed)
      fail("DIRECTORY_NOT_EMPTY", `the folder ${location} of the tablespace ${oid} is not empty`, {
        hint: `give the tablespace another folder: --tablespace ${oid}=NEW; where no other cluster uses what is there, which would lose it, --tablespace ${oid}=${location} has it moved aside with ${replaced}`,
      });
    await requireWritable(dirname(await realpath(location)), `where what is in ${location} is moved aside`);
  }
  await requireWritable(await nearestFolder(location), `the place of the tablespace ${oid}`);
  if (names.length > 0) return { message: `it goes to ${location}, and what is there is moved aside` };
  return { message: `it goes to ${location}` };
}

/** Whether a path is a symbolic link. */
export async function isLink(path: string): Promise<boolean> {
  const found = await lstat(path).catch((error: unknown) => {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw error;
  });
  return found?.isSymbolicLink() ?? false;
}
