import { readdir, readFile, readlink, stat } from "node:fs/promises";
import { join } from "node:path";
import { readIfThere } from "../settings/configuration.ts";

/** What the postmaster.pid of a data directory tells. */
export type ServerSight =
  /** There is none. */
  | { readonly kind: "none" }
  /** Its process is here, and works in that directory. */
  | { readonly kind: "running"; readonly pid: number }
  /**
   * It names a process that is not here, or is something else: what a crash has left, or a server in a container or on
   * another host.
   */
  | { readonly kind: "unseen"; readonly pid: string };

const serverNames: ReadonlySet<string> = new Set(["postgres", "postmaster"]);

function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error ? String(error.code) : "";
}

/** Whether the process has that directory as its working folder, as every process of its server has. */
async function worksIn(pid: number, dataDirectory: string): Promise<boolean> {
  try {
    const [cwd, data] = await Promise.all([stat(`/proc/${pid}/cwd`), stat(dataDirectory)]);
    return cwd.dev === data.dev && cwd.ino === data.ino;
  } catch (error) {
    const code = codeOf(error);
    // A process of another user, where root may not look either: what pg_ctl has started says its directory.
    if (code === "EACCES" || code === "EPERM") return await wasStartedFor(pid, dataDirectory);
    if (code === "ENOENT" || code === "ESRCH") return false;
    throw error;
  }
}

async function wasStartedFor(pid: number, dataDirectory: string): Promise<boolean> {
  const words = (await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "")).split("\0");
  const named = words[words.indexOf("-D") + 1];
  if (!words.includes("-D") || !named?.startsWith("/")) return false;
  const [own, data] = await Promise.all([named, dataDirectory].map((path) => stat(path).catch(() => undefined)));
  return own !== undefined && data !== undefined && own.dev === data.dev && own.ino === data.ino;
}

/** Looks for the server of a data directory. */
export async function seeServer(dataDirectory: string): Promise<ServerSight> {
  const text = await readIfThere(join(dataDirectory, "postmaster.pid"));
  if (text === undefined) return { kind: "none" };
  const first = text.split("\n")[0] ?? "";
  // That of a server for a single user is negative.
  const pid = Math.abs(Number(first));
  const unseen: ServerSight = { kind: "unseen", pid: first };
  if (!Number.isInteger(pid) || pid === 0) return unseen;
  const name = (await readIfThere(`/proc/${pid}/comm`).catch(() => undefined))?.trim() ?? "";
  const state = (await readIfThere(`/proc/${pid}/stat`).catch(() => undefined))?.split(") ").at(-1)?.[0] ?? "Z";
  if (!serverNames.has(name) || state === "Z" || !(await worksIn(pid, dataDirectory))) return unseen;
  return { kind: "running", pid };
}

/** A process of a server, and where it works. */
interface RunningServer {
  readonly pid: number;
  readonly dataDirectory: string;
}

async function serverProcesses(): Promise<number[]> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name)).map(Number);
  const found: number[] = [];
  for (const pid of pids.toSorted((one, other) => one - other)) {
    const name = (await readIfThere(`/proc/${pid}/comm`).catch(() => undefined))?.trim() ?? "";
    if (serverNames.has(name)) found.push(pid);
  }
  return found;
}

/**
 * Whether any process of a server works in a data directory, here: one that is ending has removed its postmaster.pid
 * before its last process is gone.
 */
export async function isServed(dataDirectory: string): Promise<boolean> {
  for (const pid of await serverProcesses()) if (await worksIn(pid, dataDirectory)) return true;
  return false;
}

/** The servers that run on this host, one process of each, as far as the agent's user may see where they work. */
export async function runningServers(): Promise<RunningServer[]> {
  const found = new Map<string, RunningServer>();
  for (const pid of await serverProcesses()) {
    const dataDirectory = await readlink(`/proc/${pid}/cwd`).catch(() => "");
    if (dataDirectory !== "" && !found.has(dataDirectory)) found.set(dataDirectory, { pid, dataDirectory });
  }
  return [...found.values()];
}

/** The process of a server that runs in a data directory, here. It alone may be signalled; see seeServer for others. */
export async function readPidOf(dataDirectory: string): Promise<number | undefined> {
  const seen = await seeServer(dataDirectory);
  return seen.kind === "running" ? seen.pid : undefined;
}
