import { readdir, readFile } from "node:fs/promises";

/** A process as /proc shows it at one moment. */
export interface ProcessSeen {
  readonly pid: number;
  readonly parent: number;
  /** With the pid it tells the process apart from a later one of the same number. */
  readonly startedAt: string;
  /** Base name of its program. */
  readonly name: string;
  readonly argv: readonly string[];
}

async function readProcess(pid: number): Promise<ProcessSeen | undefined> {
  // A process that ends while it is looked at was not there.
  const [stat, cmdline] = await Promise.all(
    ["stat", "cmdline"].map((file) => readFile(`/proc/${pid}/${file}`, "utf8").catch(() => "")),
  );
  if (!stat) return undefined;
  // The name in parentheses may hold spaces and parentheses itself.
  const [state, parent, ...rest] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  if (state === "Z" || parent === undefined) return undefined;
  const argv = (cmdline ?? "").split("\0").slice(0, -1);
  return { pid, parent: Number(parent), startedAt: rest[17] ?? "", name: (argv[0] ?? "").replace(/^.*\//, ""), argv };
}

/** Every process of the machine that is not a zombie. */
export async function listProcesses(): Promise<ProcessSeen[]> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name)).map(Number);
  return (await Promise.all(pids.map(readProcess))).filter((process) => process !== undefined);
}

/** What a process has started, and what those have. */
export async function listDescendants(pid: number): Promise<ProcessSeen[]> {
  const all = await listProcesses();
  const of = (parent: number): ProcessSeen[] =>
    all.filter((process) => process.parent === parent).flatMap((process) => [process, ...of(process.pid)]);
  return of(pid);
}

/** Those of the processes that still run. */
export async function stillRunning(processes: readonly ProcessSeen[]): Promise<ProcessSeen[]> {
  const now = await listProcesses();
  return processes.filter(({ pid, startedAt }) => now.some((one) => one.pid === pid && one.startedAt === startedAt));
}
