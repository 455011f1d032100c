import { fail, isFailure } from "@coppice/proto/kit/failure";
import { runProgram } from "./run.ts";

/** A user of the host. */
export interface OsUser {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
  /** Home folder. */
  readonly home: string;
}

/** The user of that name or uid, as the host's name service knows it. Fails with OS_USER_NOT_FOUND. */
export async function lookUpUser(user: string | number, signal: AbortSignal): Promise<OsUser> {
  const entry = await passwdEntry(String(user), signal);
  // name:password:uid:gid:comment:home:shell
  const [name, , uid, gid, , home] = entry?.split("\n")[0]?.split(":") ?? [];
  // getent takes a number for a uid also where a name was asked for.
  const isOther = typeof user === "string" ? name !== user : Number(uid) !== user;
  if (!name || !uid || !gid || home === undefined || isOther) {
    fail("OS_USER_NOT_FOUND", `user ${JSON.stringify(user)} does not exist on this host`);
  }
  return { name, uid: Number(uid), gid: Number(gid), home };
}

async function passwdEntry(user: string, signal: AbortSignal): Promise<string | undefined> {
  try {
    const { stdout } = await runProgram({ file: "getent", args: ["--", "passwd", user] }, { signal });
    return stdout.toString("utf8");
  } catch (error) {
    // getent(1): 2 means that the key is not in the database.
    if (isFailure(error, "PROGRAM_FAILED") && error.metadata["exitCode"] === "2") return undefined;
    throw error;
  }
}
