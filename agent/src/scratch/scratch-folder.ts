import { chown, lstat, mkdir, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { RecoverPartCommand } from "@coppice/proto/gen/coppice/agent/v1/recover_part";
import { fail } from "@coppice/proto/kit/failure";
import type { Sight } from "../host/look.ts";
import type { OsUser } from "../host/os-user.ts";
import { runProgram } from "../host/run.ts";
import { chooseOwner, nearestFolder } from "../physical/restore/owner.ts";
import { stopServerIn } from "../physical/restore/settle.ts";
import { scratchPort } from "../physical/restore/settings/scratch-settings.ts";

/** What lies where in a scratch folder. */
export interface ScratchPlaces {
  readonly folder: string;
  /** Data directory; the command names it, so that it is staged, stopped and removed as any other. */
  readonly data: string;
  readonly socketFolder: string;
  /** The dump of what is wanted, with what has to be known of it beside. */
  readonly dump: string;
}

/** Longest path of a socket that a system takes. */
const mostSocketBytes = 107;

/** The places of a command's scratch folder. Fails with INVALID_FIELD where the command's own lie outside of it. */
export function scratchPlaces({ scratch: folder, restore }: RecoverPartCommand): ScratchPlaces {
  const inside = [restore?.dataDirectory ?? "", ...(restore?.tablespaces ?? []).map(({ location }) => location)];
  const outside = inside.find((path) => !path.startsWith(`${folder}/`) || path.split("/").includes(".."));
  if (outside !== undefined || folder.split("/").includes(".."))
    fail("INVALID_FIELD", `${outside ?? folder} does not lie in a scratch folder`);
  return { folder, data: join(folder, "data"), socketFolder: join(folder, "run"), dump: join(folder, "part.dump") };
}

async function findFolder(path: string) {
  return await lstat(path).catch((error: unknown) => {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw error;
  });
}

/**
 * Whether a scratch folder can be made: the folder around it is there, the server's user can enter it, and the socket's
 * path is not too long. Fails with INVALID_FIELD, FILE_NOT_WRITABLE or as chooseOwner does.
 */
export async function seeScratch({ folder, socketFolder }: ScratchPlaces, signal: AbortSignal): Promise<Sight> {
  const around = dirname(folder);
  if ((await nearestFolder(around)) !== around || !(await findFolder(around))?.isDirectory())
    fail("INVALID_FIELD", `there is no folder ${around} to recover the cluster in`, {
      hint: "make it, or name another one with --scratch",
    });
  const socket = join(socketFolder, `.s.PGSQL.${scratchPort}`);
  if (Buffer.byteLength(socket) > mostSocketBytes)
    fail("INVALID_FIELD", `${around} is too long a path: the server's socket ${socket} could not be made`, {
      hint: "name a folder with a shorter path with --scratch",
    });
  const owner = await chooseOwner(around, signal);
  const test = { file: "test", args: ["-x", around], user: owner };
  const canEnter = await runProgram(test, { signal }).then(
    () => true,
    () => false,
  );
  signal.throwIfAborted();
  if (!canEnter)
    fail("FILE_NOT_WRITABLE", `the server's user ${owner.name} may not enter ${around}`, {
      hint: "name a folder that it may enter with --scratch",
    });
  return { message: `the cluster is recovered in ${folder}, as ${owner.name}, and removed again` };
}

/**
 * Makes the scratch folder (0700, of the server's user), which must not be there: in a folder for everybody somebody else
 * may have put something in its place. Fails with DIRECTORY_NOT_EMPTY or FILE_NOT_WRITABLE.
 */
export async function makeScratch({ folder, socketFolder }: ScratchPlaces, signal: AbortSignal): Promise<void> {
  const owner = await chooseOwner(dirname(folder), signal);
  for (const path of [folder, socketFolder]) {
    try {
      await mkdir(path, { mode: 0o700 });
    } catch (error) {
      const code = error instanceof Error && "code" in error ? String(error.code) : undefined;
      if (code === "EEXIST") fail("DIRECTORY_NOT_EMPTY", `${path} is there already`, { cause: error });
      if (code === "EACCES" || code === "EROFS")
        fail("FILE_NOT_WRITABLE", `the agent cannot make ${path}: ${code}`, { cause: error });
      throw error;
    }
    await own(path, owner);
  }
}

async function own(path: string, { uid, gid }: OsUser): Promise<void> {
  if (process.geteuid?.() === 0) await chown(path, uid, gid);
}

/**
 * Whether the scratch folder is there. Fails with DIRECTORY_NOT_EMPTY where it is somebody else's, or no folder: that is
 * left alone.
 */
async function isThere({ folder }: ScratchPlaces): Promise<boolean> {
  const found = await findFolder(folder);
  if (!found) return false;
  const owner = await chooseOwner(dirname(folder), AbortSignal.timeout(10_000));
  // Root's for the moment before it is given to the server's user.
  const isOwn = found.isDirectory() && [process.geteuid?.(), owner.uid].includes(found.uid);
  if (!isOwn) fail("DIRECTORY_NOT_EMPTY", `${folder} is not what was made under that name, and is left alone`);
  return true;
}

/** Stops the scratch server and removes its files; what was dumped out of it stays. Fails as removeScratch. */
export async function removeServer(places: ScratchPlaces): Promise<void> {
  if (!(await isThere(places))) return;
  const { folder, data, socketFolder } = places;
  await stopServerIn(data, AbortSignal.timeout(60_000));
  for (const path of [data, socketFolder, join(folder, "tablespaces")])
    await rm(path, { recursive: true, force: true, maxRetries: 5 });
}

/**
 * Stops the scratch server and removes the whole folder; says whether there was one. Somebody else's folder of that name
 * is left alone. Fails where the server cannot be stopped or something not be removed.
 */
export async function removeScratch(places: ScratchPlaces): Promise<boolean> {
  if (!(await isThere(places))) return false;
  await removeServer(places);
  await rm(places.folder, { recursive: true, force: true, maxRetries: 5 });
  return true;
}
