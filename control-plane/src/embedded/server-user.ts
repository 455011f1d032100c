import { readFile } from "node:fs/promises";
import { fail } from "@coppice/proto/kit/failure";

/** The user that PostgreSQL runs as, when it is not our own: it refuses to run as root. */
export interface ServerUser {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
}

/** Undefined when we are no root: PostgreSQL then runs as we do. Else the first of coppice, postgres, nobody. */
export async function chooseServerUser(): Promise<ServerUser | undefined> {
  if (process.getuid?.() !== 0) return undefined;
  const passwd = await readFile("/etc/passwd", "utf8");
  for (const wanted of ["coppice", "postgres", "nobody"]) {
    for (const line of passwd.split("\n")) {
      const [name, , uid, gid] = line.split(":");
      if (name === wanted && uid !== undefined && gid !== undefined)
        return { name, uid: Number(uid), gid: Number(gid) };
    }
  }
  return fail("CONFIGURATION_INVALID", "PostgreSQL refuses to run as root and there is no other user for it", {
    hint: "create a user named coppice, or set COPPICE_DATABASE_URL",
  });
}
