import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { freePort } from "../tests/support/free-port.ts";
import type { Installation } from "../tests/support/installation.ts";
import type { PostgresServer } from "../tests/support/postgres-servers.ts";
import { runProgram } from "../tests/support/run-program.ts";

/** What the demonstration lends to this part of it. */
export interface Demonstration {
  readonly cop: Installation;
  readonly server: PostgresServer;
  /** Folder for what is made; the database server's user can enter it. */
  readonly folder: string;
  readonly show: (args: readonly string[]) => Promise<string>;
  readonly claim: (holds: boolean, text: string) => void;
  /** Gives a line a table for a database, rows and a digest over them, by the script that it is handed. */
  readonly digest: (sql: (database: string, text: string) => Promise<string>) => Promise<string>;
}

/** A full backup of the cluster demo, and a second server that comes of it; disposing stops that server. */
export async function showPhysicalBackup(demonstration: Demonstration): Promise<AsyncDisposable> {
  const { cop, server, folder, show, claim, digest } = demonstration;
  const before = (await digest((database, text) => server.sql(database, text))).trimEnd();
  await show(["backup", "create", "demo", "--to", "main", "--kind", "full", "--wal", "embedded"]);
  const { backups = [] } = await cop.json<{ backups?: { id: string; kind: string; complete?: boolean }[] }>([
    "backup",
    "list",
  ]);
  const full = backups.find(({ kind }) => kind === "BACKUP_KIND_FULL");
  claim(full?.complete === true, "1 complete physical backup in the catalog, with the WAL that it needs in it");
  const id = full?.id ?? "";
  await show(["backup", "verify", id, "--content"]);
  await server.sql("shop", "insert into customers values (1000000, 'after the backup')");

  await mkdir(join(folder, "twin"));
  await openToServer(join(folder, "twin"), server);
  const directory = join(folder, "twin/data");
  const port = await freePort();
  const place = ["--backup", id, "--to", `db7:${directory}`, "--start", "--port", String(port)];
  await show(["restore", "plan", "demo", ...place]);
  // It may have started also where it is not said to have: it is stopped in any case.
  const twin = { [Symbol.asyncDispose]: () => stopServer(directory, server) };
  try {
    await show(["restore", "create", "demo", ...place]);
    const restored = await digest((database, text) => query(server, port, database, text));
    claim(restored === before, `the server on port ${port} has what was there when the backup ended, row by row`);
    const late = await query(server, port, "shop", "select count(*) from customers where id = 1000000");
    claim(late.trim() === "0", "and nothing of what came after it");
  } catch (error) {
    await twin[Symbol.asyncDispose]();
    throw error;
  }
  await server.sql("shop", "delete from customers where id = 1000000");
  return twin;
}

/** The server's user makes the data directory's neighbours, where it is not who runs this. */
async function openToServer(path: string, { owner }: PostgresServer): Promise<void> {
  if (process.getuid?.() !== 0) return;
  const { code, stderr } = await runProgram("chown", [`${owner.uid}:${owner.gid}`, path], { env: process.env });
  if (code !== 0) throw new Error(stderr);
}

async function query(
  { binDir, superuser, password }: PostgresServer,
  port: number,
  database: string,
  text: string,
): Promise<string> {
  const env = { ...process.env, PGPASSWORD: password };
  const args = [
    "-XAtq",
    "-v",
    "ON_ERROR_STOP=1",
    "-h",
    "127.0.0.1",
    "-p",
    String(port),
    "-U",
    superuser,
    "-d",
    database,
  ];
  const { code, stdout, stderr } = await runProgram(join(binDir, "psql"), args, { env, input: text });
  if (code !== 0) throw new Error(`psql on port ${port}: ${stderr}`);
  return stdout.trimEnd();
}

async function stopServer(directory: string, { binDir, owner }: PostgresServer): Promise<void> {
  const stop = [join(binDir, "pg_ctl"), "-D", directory, "-m", "fast", "-w", "stop"];
  const become = ["setpriv", `--reuid=${owner.uid}`, `--regid=${owner.gid}`, "--clear-groups"];
  const [file = "", ...args] = process.getuid?.() === 0 ? [...become, ...stop] : stop;
  // A server that never started is no trouble, and one that goes on shows itself by its folder.
  await runProgram(file, args, { env: process.env });
}
