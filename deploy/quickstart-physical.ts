import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { freePort } from "../tests/support/free-port.ts";
import { type Installation, waitFor } from "../tests/support/installation.ts";
import type { PostgresServer } from "../tests/support/postgres-servers.ts";
import { runProgram } from "../tests/support/run-program.ts";
import { ask, asServer } from "../tests/support/scenarios/restored-server.ts";

/** What the demonstration lends to this part of it. */
export interface Demonstration {
  readonly cop: Installation;
  /** A server of PostgreSQL 17 or newer that summarizes WAL. */
  readonly server: PostgresServer;
  /** Folder for what is made; the database server's user can enter it. */
  readonly folder: string;
  readonly show: (args: readonly string[]) => Promise<string>;
  readonly claim: (holds: boolean, text: string) => void;
  /** Gives a line for each of the tables of the database shop, rows and a digest over them; it is handed the way to ask. */
  readonly digest: (sql: (database: string, text: string) => Promise<string>) => Promise<string>;
}

interface Backup {
  readonly id: string;
  readonly kind: string;
  readonly complete?: boolean;
  readonly parent?: string;
  readonly physical?: { readonly walEmbedded?: boolean };
}

/** A time, as a person writes it, and what the database held then. */
interface Moment {
  readonly at: string;
  readonly contents: string;
}

/**
 * Archives the WAL of the cluster demo, takes a full and an incremental backup, drops a table, and recovers the cluster as
 * it was a second before into another directory; disposing stops the server that came of it.
 */
export async function showRecovery(demonstration: Demonstration): Promise<AsyncDisposable> {
  await archiveWal(demonstration);
  await takeBackups(demonstration);
  const before = await dropTable(demonstration);
  await bringBackTable(demonstration, before);
  return await recoverCluster(demonstration, before);
}

/** From here on the agent receives the WAL of the cluster and stores it. */
async function archiveWal(demonstration: Demonstration): Promise<void> {
  const { show, server } = demonstration;
  await show(["cluster", "check", "demo"]);
  await show(["wal", "setup", "demo", "--to", "main", "--max-age", "2s"]);
  await untilStored(demonstration, await server.sql("postgres", "select pg_switch_wal()"));
}

async function takeBackups({ cop, server, show, claim }: Demonstration): Promise<void> {
  const newest = async () => {
    const { backups = [] } = await cop.json<{ backups?: Backup[] }>(["backup", "list", "--cluster", "demo"]);
    const physical = backups.filter(({ kind }) => kind !== "BACKUP_KIND_DUMP");
    return physical.find(({ id }) => !physical.some(({ parent }) => parent === id));
  };
  await show(["backup", "create", "demo", "--to", "main", "--kind", "full"]);
  const full = await newest();
  claim(
    full?.kind === "BACKUP_KIND_FULL" && full.complete === true && full.physical?.walEmbedded !== true,
    "1 complete full backup in the catalog, the WAL that it needs in the archive",
  );
  await show(["backup", "verify", full?.id ?? "", "--content"]);
  await server.sql("shop", "insert into customers select i, 'customer ' || i from generate_series(2000, 2999) i");
  await show(["backup", "create", "demo", "--to", "main", "--kind", "incremental"]);
  const incremental = await newest();
  claim(
    incremental?.kind === "BACKUP_KIND_INCREMENTAL" && incremental.complete === true && incremental.parent === full?.id,
    "1 complete incremental backup, which builds on the full one",
  );
  await show(["backup", "list", "--cluster", "demo"]);
}

/** The accident; gives the second before it, in which nothing happened. */
async function dropTable(demonstration: Demonstration): Promise<Moment> {
  const { server, claim, show } = demonstration;
  const sql = (database: string, text: string) => server.sql(database, text);
  await sql("shop", "insert into orders select i, 1, now() from generate_series(100001, 100500) i");
  const contents = await demonstration.digest(sql);
  // A whole second lies between what was committed and what is dropped.
  await sql("postgres", "select pg_sleep(1.2)");
  const second = "to_char(date_trunc('second', clock_timestamp()) at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS')";
  const at = `${await sql("postgres", `select ${second}`)}+00`;
  await sql("postgres", "select pg_sleep(1.2)");
  await sql("shop", "drop table items cascade");
  const left = await sql("shop", "select count(*) from pg_tables where tablename = 'items'");
  claim(left === "0", `an accident a second after ${at}: drop table items cascade`);
  await untilStored(demonstration, await sql("postgres", "select pg_switch_wal()"));
  // Which position had which time is known by the server's clock, which the agent reads from time to time.
  await waitFor(
    "the archive knows that time",
    async () => {
      const { storedTime } = await readArchive(demonstration);
      return storedTime !== undefined && Date.parse(storedTime) > Date.parse(at.replace(" ", "T").replace("+00", "Z"));
    },
    60_000,
  );
  await show(["wal", "status", "demo"]);
  return { at, contents };
}

/** The table alone, out of the cluster as it was then, in a database beside the live one. */
async function bringBackTable(demonstration: Demonstration, { at, contents }: Moment): Promise<void> {
  const { server, folder, show, claim } = demonstration;
  const scratch = join(folder, "scratch");
  await mkdir(scratch);
  await openToServer(scratch, server);
  const part = ["--at", at, "--database", "shop", "--table", "public.items", "--as", "items-before"];
  await show(["restore", "plan", "demo", ...part, "--scratch", scratch]);
  await show(["restore", "create", "demo", ...part, "--scratch", scratch]);
  const digest = "md5(string_agg(md5(t::text), '' order by t::text))";
  const found = await server.sql("items-before", `select 'items', count(*), ${digest} from items t`);
  claim(contents.split("\n").includes(found), "items-before has the table items as it was, compared row by row");
}

/** The whole cluster as it was then, by a server beside the one that lives. */
async function recoverCluster(demonstration: Demonstration, { at, contents }: Moment): Promise<AsyncDisposable> {
  const { server, folder, show, claim } = demonstration;
  await mkdir(join(folder, "recovered"));
  await openToServer(join(folder, "recovered"), server);
  const directory = join(folder, "recovered/data");
  const port = await freePort();
  const place = ["--at", at, "--to", `db7:${directory}`, "--start", "--port", String(port)];
  await show(["restore", "plan", "demo", ...place]);
  // It may have started also where it is not said to have: it is stopped in any case.
  const recovered = {
    [Symbol.asyncDispose]: async () => {
      // A server that never started is no trouble, and one that goes on shows itself by its folder.
      await asServer(server, "pg_ctl", ["-D", directory, "-m", "fast", "-w", "stop"]);
    },
  };
  try {
    await show(["restore", "create", "demo", ...place]);
    const query = (database: string, text: string) => ask(server, port, database, text);
    const items = await query("shop", "select count(*) from items");
    claim(items === "60000", `the server on port ${port} has the table items with its ${items} rows`);
    const found = await demonstration.digest(query);
    claim(found === contents, `and every table as it was at ${at}, compared row by row`);
    const state = await query("postgres", "select pg_is_in_recovery(), current_setting('archive_mode')");
    claim(state === "f|off", "it is a primary of its own that archives nowhere");
    return recovered;
  } catch (error) {
    await recovered[Symbol.asyncDispose]();
    throw error;
  }
}

function readArchive({ cop }: Demonstration): Promise<{ storedLsn?: string; storedTime?: string }> {
  return cop.json(["wal", "status", "demo"]);
}

async function untilStored(demonstration: Demonstration, lsn: string): Promise<void> {
  await waitFor(
    `WAL is stored up to ${lsn}`,
    async () => {
      const { storedLsn } = await readArchive(demonstration);
      if (!storedLsn) return false;
      return (await demonstration.server.sql("postgres", `select '${storedLsn}'::pg_lsn >= '${lsn}'`)) === "t";
    },
    60_000,
  );
}

/** The server's user makes the data directory's neighbours, where it is not who runs this. */
async function openToServer(path: string, { owner }: PostgresServer): Promise<void> {
  if (process.getuid?.() !== 0) return;
  const { code, stderr } = await runProgram("chown", [`${owner.uid}:${owner.gid}`, path], { env: process.env });
  if (code !== 0) throw new Error(stderr);
}
