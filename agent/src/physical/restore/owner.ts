import { stat } from "node:fs/promises";
import { dirname } from "node:path";
import { fail, isFailure } from "@coppice/proto/kit/failure";
import { runProgram } from "../../host/run.ts";
import { lookUpUser, type OsUser } from "../../host/os-user.ts";

const usualName = "postgres";

/** What a path cannot be used for because of, in words. */
const obstacles: Readonly<Record<string, string>> = {
  EACCES: "its user may not look there",
  ELOOP: "links lead in a circle",
  ENAMETOOLONG: "the name is too long",
};

/** The folder itself or the nearest one above it that exists. Fails with FILE_NOT_WRITABLE where that cannot be seen. */
export async function nearestFolder(path: string): Promise<string> {
  for (let folder = path; ; folder = dirname(folder)) {
    try {
      const found = await stat(folder);
      if (!found.isDirectory() && folder !== path) refusePlace(path, `${folder} is no folder`);
      return folder;
    } catch (error) {
      const code = error instanceof Error && "code" in error ? String(error.code) : "";
      const why = obstacles[code];
      if (why !== undefined) refusePlace(path, why, error);
      if ((code !== "ENOENT" && code !== "ENOTDIR") || folder === "/") throw error;
    }
  }
}

function refusePlace(path: string, why: string, cause?: unknown): never {
  fail("FILE_NOT_WRITABLE", `the agent cannot write into ${path}: ${why}`, {
    hint: "let the agent's user write there, or name another folder",
    cause,
  });
}

/**
 * The user that a restored data directory belongs to and whose server it is: the agent's own, or for root the owner of
 * the folder or of the nearest one above it, else `postgres`; never root. Fails with OS_USER_NOT_FOUND.
 */
export async function chooseOwner(dataDirectory: string, signal: AbortSignal): Promise<OsUser> {
  const uid = process.geteuid?.() ?? 0;
  if (uid !== 0) return await lookUpUser(uid, signal);
  const { uid: owner } = await stat(await nearestFolder(dataDirectory));
  if (owner !== 0) return await lookUpUser(owner, signal);
  try {
    return await lookUpUser(usualName, signal);
  } catch (error) {
    if (!isFailure(error, "OS_USER_NOT_FOUND")) throw error;
    return fail("OS_USER_NOT_FOUND", `there is no user ${usualName} that a server in ${dataDirectory} could run as`, {
      hint: `make the folder and give it to the server's user: chown USER ${dataDirectory}`,
      cause: error,
    });
  }
}

/** Whose files are taken for what this agent has left: its own, and those of the server's user. */
export async function ownUids(dataDirectory: string, signal: AbortSignal): Promise<number[]> {
  const own = process.geteuid?.() ?? 0;
  const owner = await chooseOwner(dataDirectory, signal).catch(() => undefined);
  return owner ? [own, owner.uid] : [own];
}

/**
 * Makes sure that the user comes to the folder in which the place is, or is to be made: nothing of a server works where it
 * cannot pass. Fails with FILE_NOT_WRITABLE.
 */
export async function requireReachable(place: string, user: OsUser, signal: AbortSignal): Promise<void> {
  const above = await nearestFolder(dirname(place));
  try {
    // Asked of the system as that user, because permissions are more than the modes of folders.
    await runProgram({ file: "test", args: ["-x", above], user }, { signal });
  } catch (cause) {
    if (!isFailure(cause, "PROGRAM_FAILED")) throw cause;
    fail("FILE_NOT_WRITABLE", `${user.name}, whose files they become, may not pass through to ${above}`, {
      hint: `let ${user.name} enter every folder above ${place}, or name another one`,
      cause,
    });
  }
}
