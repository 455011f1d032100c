import { execFile, spawn } from "node:child_process";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { freePort } from "../free-port.ts";
import type { PostgresServer } from "../postgres-servers.ts";

/** A server on a restored data directory. */
export interface RecoveredServer extends AsyncDisposable {
  readonly port: number;
  sql(database: string, text: string): Promise<string>;
}

/**
 * Starts the programs of a server's major on another data directory, and waits until its recovery has ended. What it logs
 * lies beside the directory, with `.log` behind its name.
 */
export async function startRecovered(
  source: PostgresServer,
  dataDir: string,
  readyMs = 60_000,
): Promise<RecoveredServer> {
  const { owner, binDir, superuser } = source;
  const [port, socketDir, logFile] = [await freePort(), source.socketDir, `${dataDir}.log`];
  const asOwner = [`--reuid=${owner.uid}`, `--regid=${owner.gid}`, "--init-groups"];
  const env = { PATH: `${binDir}:/usr/bin:/bin`, LANG: "C.UTF-8" };
  const postgres = ["-D", dataDir, "-p", String(port), "-k", socketDir, "-c", `log_directory=/nonexistent`];
  const child = spawn(
    "setpriv",
    [...asOwner, "--pdeathsig", "QUIT", "sh", "-c", 'exec "$0" "$@" 2> "$LOG"', join(binDir, "postgres"), ...postgres],
    { env: { ...env, LOG: logFile }, cwd: "/", stdio: "ignore" },
  );
  const sql = (database: string, text: string) =>
    new Promise<string>((resolve, reject) => {
      const args = [join(binDir, "psql"), "-XqAt", "-v", "ON_ERROR_STOP=1", "-h", socketDir, "-p", String(port)];
      const whole = [...asOwner, ...args, "-U", superuser, "-d", database, "-c", text];
      execFile("setpriv", whole, { env, cwd: "/" }, (error, stdout, stderr) => {
        if (error) reject(new Error(stderr.trim() || error.message));
        else resolve(stdout.replace(/\n$/, ""));
      });
    });
  const ended = new Promise<void>((resolve) => void child.once("exit", () => resolve()));
  const stop = async () => {
    child.kill("SIGQUIT");
    await ended;
  };
  const deadline = Date.now() + readyMs;
  for (;;) {
    const answer = await sql("postgres", "select pg_is_in_recovery()").catch(() => "");
    if (answer === "f") break;
    if (child.exitCode !== null || Date.now() > deadline) {
      await stop();
      throw new Error(`the restored server did not recover:\n${(await readFile(logFile, "utf8")).slice(-4000)}`);
    }
    await delay(50);
  }
  return { port, sql, [Symbol.asyncDispose]: stop };
}
