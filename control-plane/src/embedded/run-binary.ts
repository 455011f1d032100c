import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { fail } from "@coppice/proto/kit/failure";
import type { ServerUser } from "./server-user.ts";

/** A program of PostgreSQL, or a small one that looks at its folders, as the server's user. */
export interface Binary {
  readonly file: string;
  readonly args: readonly string[];
  readonly user: ServerUser | undefined;
  /** Where its messages go; a pipe when left out. */
  readonly stderr?: number;
}

/** Starts it with a clean environment, in the root folder, in a process group of its own: Ctrl-C is ours to handle. */
export function startBinary({ file, args, user, stderr }: Binary): ChildProcess {
  return spawn(file, args, {
    cwd: "/",
    detached: true,
    env: { PATH: "/usr/bin:/bin", LANG: "C.UTF-8", TZ: "UTC" },
    stdio: ["ignore", stderr ?? "ignore", stderr ?? "pipe"],
    ...(user === undefined ? {} : { uid: user.uid, gid: user.gid }),
  });
}

/** Runs it to its end; gives the exit code, 126 when it may not be run at all, and its last messages. */
export async function runBinary(binary: Binary): Promise<{ code: number; messages: string }> {
  const child = startBinary(binary);
  let messages = "";
  child.stderr?.setEncoding("utf8").on("data", (text: string) => {
    messages = (messages + text).slice(-4000);
  });
  try {
    const [code] = (await once(child, "close")) as [number | null];
    return { code: code ?? 128, messages };
  } catch (cause) {
    const errno = cause instanceof Error && "code" in cause ? cause.code : undefined;
    if (errno === "EACCES" || errno === "EPERM") return { code: 126, messages: "permission denied" };
    return fail("PROGRAM_FAILED", `${binary.file} cannot be started`, { cause });
  }
}
