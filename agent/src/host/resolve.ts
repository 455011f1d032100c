import { access, constants, stat } from "node:fs/promises";
import { homedir } from "node:os";
import { basename, delimiter, isAbsolute, join } from "node:path";
import { fail } from "@coppice/proto/kit/failure";
import type { OsUser } from "./os-user.ts";
import type { Program } from "./program.ts";

/** A program found on the host, and how the kernel is asked to start it. */
export interface ResolvedProgram {
  /** Base name, for messages. */
  readonly name: string;
  readonly file: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly cwd: string;
  readonly forks: boolean;
  readonly hidesLine: (line: string) => boolean;
  readonly secretInput: string | undefined;
  readonly user: OsUser | undefined;
}

const usualPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

// The kernel's death signal reaches only the process itself, so one that forks runs below a shell that stays and takes
// its group along: TERM first, by which PostgreSQL's tools cancel what they run on the server. The shell gives its
// input away (a background job would read /dev/null) and keeps none of the pipes open.
const guard = `trap 'trap "" TERM; kill -TERM 0; sleep 1; kill -KILL 0' USR1; trap : TERM
exec 9<&0; "$@" <&9 9<&- & p=$!; exec 0</dev/null 1>/dev/null 3<&- 9<&-
wait $p; s=$?
while [ $s -gt 128 ] && kill -0 $p 2>/dev/null; do wait $p; s=$?; done
exit $s`;

const readOn = `"$@" || exit; exec cat >/dev/null`;

/**
 * Finds a program and wraps it so that it dies with this process and runs as its user. Fails with PROGRAM_MISSING or
 * OS_USER_NOT_USABLE.
 */
export async function resolveProgram(program: Program): Promise<ResolvedProgram> {
  const path = process.env["PATH"] || usualPath;
  const [file, setpriv] = await Promise.all([findProgram(program.file, path), findProgram("setpriv", path)]);
  const { forks = false, readsOn = false } = program;
  const isGuarded = forks || readsOn;
  const reading = readsOn ? ["/bin/sh", "-c", readOn, "sh"] : [];
  const started = [...(isGuarded ? ["/bin/sh", "-c", guard, "sh"] : []), ...reading, file, ...program.args];
  return {
    name: basename(program.file),
    file: setpriv,
    args: [`--pdeathsig=${isGuarded ? "USR1" : "KILL"}`, ...userArgs(program), "--", ...started],
    env: environment(program, path),
    cwd: program.cwd ?? "/",
    forks: isGuarded,
    hidesLine: program.hidesLine ?? (() => false),
    secretInput: program.secretInput,
    user: program.user,
  };
}

function userArgs({ file, user }: Program): string[] {
  const uid = process.geteuid?.();
  if (!user || user.uid === uid) return [];
  if (uid !== 0) {
    fail("OS_USER_NOT_USABLE", `${basename(file)} has to run as user ${user.name}, and the agent runs with uid ${uid}`);
  }
  return [`--reuid=${user.uid}`, `--regid=${user.gid}`, "--init-groups"];
}

function environment({ env, user }: Program, path: string): Record<string, string> {
  const name = user?.name ?? process.env["USER"] ?? "";
  const timeZone = process.env["TZ"];
  return {
    PATH: path,
    LANG: "C.UTF-8",
    HOME: user?.home ?? homedir(),
    ...(name === "" ? {} : { USER: name, LOGNAME: name }),
    ...(timeZone === undefined ? {} : { TZ: timeZone }),
    ...env,
  };
}

async function findProgram(file: string, path: string): Promise<string> {
  const places = isAbsolute(file) ? [file] : path.split(delimiter).map((folder) => join(folder || ".", file));
  for (const place of places) if (await isProgram(place)) return place;
  return fail("PROGRAM_MISSING", `program ${file} is not on this host`, { metadata: { program: basename(file) } });
}

async function isProgram(place: string): Promise<boolean> {
  try {
    await access(place, constants.X_OK);
    return (await stat(place)).isFile();
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === "ENOENT" || code === "ENOTDIR" || code === "EACCES") return false;
    throw error;
  }
}
