import { open, readdir, readFile, rm, stat } from "node:fs/promises";
import { join, resolve } from "node:path";
import { fail, isFailure } from "@coppice/proto/kit/failure";
import { sleep } from "@coppice/proto/kit/sleep";
import type { OsUser } from "../../host/os-user.ts";
import { runProgram } from "../../host/run.ts";
import { type ServerPrograms, serverProgram } from "./server-programs.ts";
import { isServed, readPidOf } from "./directory/running-server.ts";
import { readIfThere } from "./settings/configuration.ts";

/** A data directory, and how its server is run. */
export interface ServerPlace {
  readonly data: string;
  readonly programs: ServerPrograms;
  readonly user: OsUser;
  readonly signal: AbortSignal;
  /** Sizes of log files when the server was started: what was in them then is another server's. Path to bytes. */
  readonly earlierLogs: Map<string, number>;
}

const logName = "restore.log";
const tailBytes = 64 * 1024;
const stopMs = 60_000;
/** How long the last processes of a server that was stopped may take. */
const goneMs = 5_000;

/** Each answer ends with a zero byte, which no setting holds. */
const printSettings = `postgres=$1 data=$2; shift 2; for name; do "$postgres" -D "$data" -C "$name" || exit; printf '\\0'; done`;

/**
 * What the server would take settings to be, in the order of their names. One shell asks for all of them, because what a
 * program of ours costs to start adds up. Fails with SERVER_NOT_STARTED when it cannot read its configuration.
 */
export async function readSettings<const Names extends readonly string[]>(
  { data, programs, user, signal }: ServerPlace,
  names: Names,
): Promise<{ readonly [Index in keyof Names]: string }> {
  try {
    const args = ["-c", printSettings, "sh", serverProgram(programs, "postgres"), data, ...names];
    const { stdout } = await runProgram({ file: "/bin/sh", args, user, forks: true }, { signal });
    const values = stdout.toString("utf8").split("\n\0");
    if (values.length !== names.length + 1) fail("INTERNAL", `${names.join(", ")} were asked for, and not answered`);
    return values.slice(0, -1) as { readonly [Index in keyof Names]: string };
  } catch (error) {
    if (!isFailure(error, "PROGRAM_FAILED")) throw error;
    return fail("SERVER_NOT_STARTED", `the configuration in ${data} cannot be read: ${error.message}`, {
      cause: error,
    });
  }
}

/** As readSettings, of one. */
export async function readSetting(place: ServerPlace, name: string): Promise<string> {
  const [value] = await readSettings(place, [name]);
  return value;
}

/**
 * Starts the server, detached from this process; that it recovers is not waited for. One that ended at once has said why
 * in its log. Fails with SERVER_NOT_STARTED when it did not even get that far.
 */
export async function startServer(place: ServerPlace): Promise<void> {
  const { data, programs, user, signal } = place;
  const log = join(data, logName);
  await noteLogs(place);
  // Not without waiting: the end of pg_ctl is that of its process group, which the server leaves a moment later.
  const args = ["start", "--wait", "--timeout=1", "--silent", `--pgdata=${data}`, `--log=${log}`];
  try {
    await runProgram({ file: serverProgram(programs, "pg_ctl"), args, user }, { signal });
  } catch (error) {
    if (!isFailure(error, "PROGRAM_FAILED")) throw error;
    if ((await readTail(log, place.earlierLogs)) !== "" || (await readPidOf(data)) !== undefined) return;
    fail("SERVER_NOT_STARTED", `the server in ${data} could not be started: ${error.message}`, { cause: error });
  }
}

/**
 * Stops the server of a data directory where one runs, also after an abort; its files are about to go. What counts is that
 * none of its processes is left: it may be about to end by itself, and then pg_ctl finds none that it could stop. Fails with
 * SERVER_RUNNING where one is left.
 */
export async function stopServer(place: Omit<ServerPlace, "signal" | "earlierLogs">): Promise<void> {
  const { data, programs, user } = place;
  let refused = "";
  if ((await readPidOf(data)) !== undefined) {
    const signal = AbortSignal.timeout(stopMs);
    const args = ["stop", "--mode=immediate", "--silent", `--pgdata=${data}`];
    try {
      await runProgram({ file: serverProgram(programs, "pg_ctl"), args, user }, { signal });
    } catch (error) {
      if (!isFailure(error, "PROGRAM_FAILED")) throw error;
      refused = `: ${error.message}`;
    }
  }
  const { signal } = new AbortController();
  for (const until = Date.now() + goneMs; await isServed(data); await sleep(25, signal))
    if (Date.now() > until) fail("SERVER_RUNNING", `a server in ${data} cannot be stopped${refused}`);
}

/** Has the server of a data directory read its files again, where one runs here. */
export async function reloadServer(data: string): Promise<void> {
  const pid = await readPidOf(data);
  if (pid !== undefined) process.kill(pid, "SIGHUP");
}

/** Files that a server leaves in its data directory and that come with a backup of it: nothing in them is of its copy. */
const traces = [
  logName,
  "current_logfiles",
  "postmaster.opts",
  "postmaster.pid",
  "postgresql.auto.conf.before-restore",
];

/** Removes from a data directory that was unpacked what the source's server, or its own restore, has said of itself. */
export async function removeServerTraces(data: string): Promise<void> {
  for (const name of traces) await rm(join(data, name), { force: true });
}

/** Notes how long the files are that the server may go on writing: its source's logs, by the day of the week for one. */
async function noteLogs(place: ServerPlace): Promise<void> {
  const { data, earlierLogs } = place;
  earlierLogs.clear();
  await rm(join(data, "current_logfiles"), { force: true });
  const folder = resolve(data, await readSetting(place, "log_directory"));
  const names = await readdir(folder).catch(() => []);
  for (const file of [join(data, logName), ...names.map((name) => join(folder, name))]) {
    const found = await stat(file).catch(() => undefined);
    if (found?.isFile()) earlierLogs.set(file, found.size);
  }
}

async function readTail(file: string, earlierLogs: ServerPlace["earlierLogs"]): Promise<string> {
  try {
    await using handle = await open(file);
    const { size } = await handle.stat();
    const earlier = earlierLogs.get(file) ?? 0;
    const buffer = Buffer.alloc(Math.min(Math.max(size - earlier, 0), tailBytes));
    await handle.read(buffer, 0, buffer.length, size - buffer.length);
    return buffer.toString("utf8");
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return "";
    throw error;
  }
}

/** The end of what the server has logged since it was started, wherever its configuration sends that. */
export async function readServerLog({ data, earlierLogs }: ServerPlace): Promise<string> {
  const first = await readTail(join(data, logName), earlierLogs);
  const current = await readFile(join(data, "current_logfiles"), "utf8").catch(() => "");
  const path = /^stderr (.+)$/m.exec(current)?.[1];
  return path === undefined ? first : first + (await readTail(resolve(data, path), earlierLogs));
}

/** The lines in which a server says why it ended, for a message. */
export function whyServerEnded(log: string): string {
  const lines = log.split("\n").filter((line) => line.trim() !== "");
  const at = lines.findLastIndex((line) => /\b(FATAL|PANIC):/.test(line));
  const said = (line: string) => line.replace(/^.*?\b(LOG|FATAL|PANIC):\s*/, "");
  const why = said(lines[at] ?? lines.at(-1) ?? "it said nothing");
  // What is wrong with a file of its configuration stands in the line before.
  const before = why.includes("contains errors") && /\bLOG:/.test(lines[at - 1] ?? "") ? lines[at - 1] : undefined;
  return (before === undefined ? why : `${said(before)}; ${why}`).replaceAll(/\p{Cc}/gu, " ").slice(0, 500);
}

/** The last lines of a server's log, for the log of an operation: no control characters, none without bounds. */
export function lastLines(log: string, count = 12): string[] {
  const lines = log.split("\n").filter((line) => line.trim() !== "");
  return lines.slice(-count).map((line) => line.replaceAll(/\p{Cc}/gu, " ").slice(0, 300));
}

/** Whether a server that runs lets anybody in yet, as it says of itself: to be refused costs both more than to look. */
export async function takesConnections(data: string): Promise<boolean> {
  const state = (await readIfThere(join(data, "postmaster.pid")))?.split("\n")[7]?.trim();
  return state === "ready" || state === "standby";
}

/** Waits until the server of a data directory is there and the condition holds; undefined when it ended before. */
export async function waitWhileRunning<T>(
  { data, signal }: ServerPlace,
  look: () => Promise<T | undefined>,
): Promise<T | undefined> {
  const everyMs = 25;
  let seen = false;
  // pg_ctl has started it, but its pid file comes a moment later.
  for (let turns = 0; ; turns++) {
    signal.throwIfAborted();
    const runs = (await readPidOf(data)) !== undefined;
    seen ||= runs;
    if (!runs && (seen || turns > 200)) return undefined;
    const found = runs ? await look() : undefined;
    if (found !== undefined) return found;
    await sleep(turns < 100 ? everyMs : 4 * everyMs, signal);
  }
}
