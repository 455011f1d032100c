import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { PostgresServer } from "../postgres-servers.ts";

/** Stops processes as if they hung; disposing lets those go on that are left. */
export function stopProcesses(pids: readonly number[]): Disposable {
  for (const pid of pids) process.kill(pid, "SIGSTOP");
  return {
    [Symbol.dispose]() {
      for (const pid of pids)
        try {
          process.kill(pid, "SIGCONT");
        } catch {
          // It has ended.
        }
    },
  };
}

/** The postmaster's pid. */
export function postmasterOf({ dataDir }: Pick<PostgresServer, "dataDir">): number {
  return Number(readFileSync(join(dataDir, "postmaster.pid"), "utf8").split("\n")[0]);
}

/** Processes of a server whose title has the text in it, at once. */
export function serverProcesses(server: Pick<PostgresServer, "dataDir">, title: string): number[] {
  const postmaster = postmasterOf(server);
  const pids = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  const read = (path: string) => {
    try {
      return readFileSync(path, "utf8");
    } catch {
      return "";
    }
  };
  const isChild = (pid: string) => read(`/proc/${pid}/status`).includes(`\nPPid:\t${postmaster}\n`);
  return pids.filter((pid) => isChild(pid) && read(`/proc/${pid}/cmdline`).includes(title)).map(Number);
}
