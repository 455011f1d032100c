import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, existsSync, openSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { runProgram } from "../run-program.ts";

const needed = ["ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "ceph", "ceph-authtool", "monmaptool", "openssl"];

/** The programs of Ceph that this machine lacks; empty when an S3 server can be started. */
export function missingCephPrograms(): string[] {
  return needed.filter((name) => !existsSync(join("/usr/bin", name)));
}

/** Runs a program to its end and gives its output; fails with what it said. */
export async function runCeph(program: string, args: readonly string[], seconds = 60): Promise<string> {
  const bounded = ["-k", "5", String(seconds), program, ...args];
  const { code, stdout, stderr } = await runProgram("timeout", bounded, { env: process.env });
  if (code !== 0) throw new Error(`${program} ${args.join(" ")} ended with ${code}: ${stderr.trim().slice(-2000)}`);
  return stdout;
}

/** Starts a daemon that ends when this process does, however that comes about; its output goes to a file. */
export function startDaemon(program: string, args: readonly string[], logFile: string): ChildProcess {
  const log = openSync(logFile, "a");
  const child = spawn("setpriv", ["--pdeathsig", "KILL", program, ...args], { cwd: "/", stdio: ["ignore", log, log] });
  closeSync(log);
  return child;
}

/** Waits until a daemon's condition holds; fails when the daemon ends first, or after a minute, with its last words. */
export async function untilReady(
  what: string,
  { child, logFile }: { child: ChildProcess; logFile: string },
  isReady: () => Promise<boolean>,
): Promise<void> {
  for (const startedAt = Date.now(); !(await isReady()); await delay(50)) {
    const hasEnded = child.exitCode !== null || child.signalCode !== null;
    if (!hasEnded && Date.now() - startedAt < 60_000) continue;
    const words = (await readFile(logFile, "utf8").catch(() => "")).slice(-2000);
    throw new Error(`${what} ${hasEnded ? "ended" : "is not ready"}: ${words}`);
  }
}
