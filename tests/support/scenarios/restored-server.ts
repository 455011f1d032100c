import { join } from "node:path";
import type { PostgresServer } from "../postgres-servers.ts";
import { runProgram } from "../run-program.ts";

/** Runs a program of the server's as its user. */
export async function asServer({ binDir, owner }: PostgresServer, program: string, args: readonly string[]) {
  const file = join(binDir, program);
  const become = [`--reuid=${owner.uid}`, `--regid=${owner.gid}`, "--clear-groups", file, ...args];
  return process.getuid?.() === 0
    ? await runProgram("setpriv", become, { env: process.env })
    : await runProgram(file, args, { env: process.env });
}

/** What a restored copy of the server answers at that port, or what psql says of its refusal. */
export async function ask(
  { binDir, superuser, password }: PostgresServer,
  port: number,
  database: string,
  sql: string,
): Promise<string> {
  const args = ["-XAtq", "-h", "127.0.0.1", "-p", String(port), "-U", superuser, "-d", database, "-c", sql];
  const env = { ...process.env, PGPASSWORD: password };
  const { code, stdout, stderr } = await runProgram(join(binDir, "psql"), args, { env });
  return code === 0 ? stdout.trimEnd() : stderr;
}
