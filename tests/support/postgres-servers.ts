// One thing: the life of a real server in a test, from its data folder to the last of its processes.
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, chown, mkdir, mkdtemp, open, readFile, rm, writeFile } from "node:fs/promises";
import { userInfo } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { freePort } from "./free-port.ts";
import { makeServerFolder } from "./server-folders.ts";
import { copyTemplate } from "./templates/data-folder.ts";
import { findServerPrograms } from "./templates/server-programs.ts";

export interface PostgresServerOptions {
  readonly major: number;
  /**
   * Lines of pg_hba.conf after the first, which always lets `sql` in by the socket. Without them: peer by the socket,
   * SCRAM passwords over loopback, for replication too.
   */
  readonly hba?: readonly string[];
  /** Settings for postgresql.conf, as `SHOW` would print them; they win over the harness's own. */
  readonly settings?: Readonly<Record<string, string>>;
  /** Environment of the server itself, besides the harness's own. */
  readonly env?: Readonly<Record<string, string>>;
  /** Real fsync, for tests that cut the power; off without it. */
  readonly isDurable?: boolean;
  /** Instead of initdb: makes the data folder, the owner's, from that of a server with the password. */
  readonly copy?: { readonly password: string; readonly fill: (dataDir: string) => Promise<void> };
}

/** How a server ends: SIGINT, SIGQUIT or SIGKILL to the postmaster. */
export type StopMode = "fast" | "immediate" | "kill";

export interface PostgresServer extends AsyncDisposable {
  readonly major: number;
  /** TCP port on 127.0.0.1, also the number in the socket's name. */
  readonly port: number;
  readonly socketDir: string;
  readonly dataDir: string;
  readonly logFile: string;
  readonly superuser: string;
  /** The superuser's password for TCP, different for each server. */
  readonly password: string;
  /** Folder of psql, pg_dump and so on: this major's, and 17's for the server of 16. */
  readonly binDir: string;
  /** The operating system's user that owns the data directory: postgres for root, else who runs the tests. */
  readonly owner: { readonly name: string; readonly uid: number; readonly gid: number };
  /** Runs a script by psql as the superuser, ending at its first error; gives unaligned rows without header. */
  sql(database: string, text: string): Promise<string>;
  start(): Promise<void>;
  stop(mode?: StopMode): Promise<void>;
}

const startDeadlineMs = 30_000;
const superuser = "postgres";
const defaultHba = [
  "local all all peer",
  "local replication all peer",
  "host all all 127.0.0.1/32 scram-sha-256",
  "host replication all 127.0.0.1/32 scram-sha-256",
];

function output(program: string, args: readonly string[], env: NodeJS.ProcessEnv, input = ""): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = execFile(program, args, { env, cwd: "/", maxBuffer: 256 * 1024 * 1024 }, (error, stdout, stderr) => {
      if (error) reject(new Error(`${program} ${args.join(" ")}: ${stderr.trim() || error.message}`));
      else resolve(stdout);
    });
    // A program that ends before it has read everything says why by its status.
    child.stdin?.on("error", () => {});
    child.stdin?.end(input);
  });
}

async function findOwner(): Promise<PostgresServer["owner"]> {
  const self = userInfo();
  if (self.uid !== 0) return { name: self.username, uid: self.uid, gid: self.gid };
  const [uid, gid] = await Promise.all(["-u", "-g"].map((flag) => output("id", [flag, "postgres"], process.env)));
  return { name: "postgres", uid: Number(uid), gid: Number(gid) };
}

function quoteSetting(value: string): string {
  return `'${value.replaceAll("'", "''").replaceAll("\\", "\\\\")}'`;
}

async function isReady(dataDir: string, pid: number): Promise<boolean> {
  const lock = await readFile(join(dataDir, "postmaster.pid"), "utf8").catch(() => "");
  const lines = lock.split("\n");
  return Number(lines[0]) === pid && lines[7]?.trim() === "ready";
}

async function childrenOf(pid: number): Promise<number[]> {
  const children = await readFile(`/proc/${pid}/task/${pid}/children`, "utf8").catch(() => "");
  return children.split(" ").filter(Boolean).map(Number);
}

async function waitGone(pid: number): Promise<void> {
  // A process that nobody has reaped yet holds nothing any more.
  const state = async () => (await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "")).split(") ").at(-1)?.[0];
  for (let now = await state(); now !== undefined && now !== "Z"; now = await state()) await delay(5);
}

function becomeOwner(owner: PostgresServer["owner"]): string[] {
  if (process.getuid?.() !== 0) return ["setpriv"];
  return ["setpriv", "--reuid", String(owner.uid), "--regid", String(owner.gid), "--init-groups"];
}

/** Makes the data folder of a server by initdb; it and the superuser are as those of openPostgresServer. */
export async function initServer(major: number, dataDir: string): Promise<void> {
  const owner = await findOwner();
  await mkdir(dataDir, { mode: 0o700 });
  await chown(dataDir, owner.uid, owner.gid);
  const [setpriv = "", ...asOwner] = becomeOwner(owner);
  const initdb = [
    join((await findServerPrograms(major)).server, "initdb"),
    `--pgdata=${dataDir}`,
    `--username=${superuser}`,
    "--encoding=UTF8",
    "--auth=scram-sha-256",
    "--auth-local=trust",
    "--no-sync",
    "--no-instructions",
  ];
  await output(setpriv, [...asOwner, ...initdb], { PATH: "/usr/bin:/bin", HOME: dataDir, LANG: "C.UTF-8" });
}

/**
 * Makes and starts a real PostgreSQL server of the given major in a temporary folder, listening on a Unix socket there
 * and on 127.0.0.1. It answers when this returns. Disposing of it stops it at once and removes the folder; when the
 * test process is killed, the kernel stops the server and the next test process removes the folder.
 */
export async function openPostgresServer(options: PostgresServerOptions): Promise<PostgresServer> {
  const { major } = options;
  const { server: serverDir, tools: binDir } = await findServerPrograms(major);
  const owner = await findOwner();
  const password = options.copy?.password ?? `pw-${crypto.randomUUID()}`;
  const folder = await makeServerFolder();
  const dataDir = join(folder, "data");
  // Names of sockets are short by the system's own limit; a clone may lie deeper than that.
  const isDeep = Buffer.byteLength(folder) > 80;
  const socketDir = isDeep ? await mkdtemp("/tmp/coppice-socket-") : join(folder, "socket");
  const logFile = join(folder, "server.log");
  const env = { PATH: `${binDir}:/usr/bin:/bin`, HOME: folder, LANG: "C.UTF-8" };
  const asOwner = becomeOwner(owner);
  const run = (program: string, args: string[], input?: string, extra?: NodeJS.ProcessEnv) =>
    output("setpriv", [...asOwner.slice(1), join(binDir, program), ...args], { ...env, ...extra }, input);

  let server: ChildProcess | undefined;
  let port = 0;

  async function stop(mode: StopMode = "fast"): Promise<void> {
    if (!server?.pid) return;
    const stopped = server;
    server = undefined;
    // One that dies may start another process just before, which would be waited for by nobody.
    if (mode === "kill") stopped.kill("SIGSTOP");
    const backends = await childrenOf(stopped.pid ?? 0);
    if (stopped.exitCode === null && stopped.signalCode === null) {
      const ended = once(stopped, "exit");
      stopped.kill(mode === "fast" ? "SIGINT" : mode === "immediate" ? "SIGQUIT" : "SIGKILL");
      await ended;
    }
    // After SIGKILL the backends notice by themselves; until then they hold the shared memory.
    for (const backend of backends) await waitGone(backend);
  }

  async function start(): Promise<void> {
    if (server && server.exitCode === null && server.signalCode === null) return;
    const log = await open(logFile, "a");
    // Only once it is the owner: a library that is loaded for it may keep what another user cannot open.
    const own = options.env ? ["env", ...Object.entries(options.env).map(([name, value]) => `${name}=${value}`)] : [];
    const child = spawn(
      "setpriv",
      [
        ...asOwner.slice(1),
        "--pdeathsig",
        "QUIT",
        ...own,
        join(serverDir, "postgres"),
        "-D",
        dataDir,
        "-p",
        String(port),
      ],
      { env, cwd: "/", stdio: ["ignore", log.fd, log.fd] },
    );
    await once(child, "spawn");
    await log.close();
    server = child;
    const deadline = Date.now() + startDeadlineMs;
    while (!(await isReady(dataDir, child.pid ?? 0))) {
      if (child.exitCode !== null || child.signalCode !== null || Date.now() > deadline) {
        await stop("immediate");
        const text = await readFile(logFile, "utf8");
        throw new Error(`PostgreSQL ${major} in ${dataDir} did not start:\n${text.slice(-4000)}`);
      }
      await delay(10);
    }
  }

  async function sql(database: string, text: string): Promise<string> {
    const args = ["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1", "--file=-"];
    const rows = await run("psql", args, text, {
      PGHOST: socketDir,
      PGPORT: String(port),
      PGUSER: superuser,
      // By the environment, because psql would read a name with an equals sign in it as a connection string.
      PGDATABASE: database,
    });
    return rows.replace(/\n$/, "");
  }

  async function dispose(): Promise<void> {
    await stop("immediate");
    await rm(folder, { recursive: true, force: true, maxRetries: 5 });
    if (isDeep) await rm(socketDir, { recursive: true, force: true });
  }

  try {
    await chmod(folder, 0o755);
    await mkdir(socketDir, { recursive: true });
    await chmod(socketDir, 0o755);
    await chown(socketDir, owner.uid, owner.gid);
    if (options.copy) await options.copy.fill(dataDir);
    else if (!(await copyTemplate(major, dataDir))) await initServer(major, dataDir);
    const first = `local all ${superuser} peer map=harness`;
    await writeFile(join(dataDir, "pg_ident.conf"), `harness ${owner.name} ${superuser}\n`, { flag: "a" });
    await writeFile(join(dataDir, "pg_hba.conf"), `${[first, ...(options.hba ?? defaultHba)].join("\n")}\n`);
    const settings = {
      listen_addresses: "127.0.0.1",
      unix_socket_directories: socketDir,
      shared_buffers: "32MB",
      max_connections: "60",
      fsync: options.isDurable ? "on" : "off",
      ...options.settings,
    };
    const lines = Object.entries(settings).map(([name, value]) => `${name} = ${quoteSetting(value)}\n`);
    await writeFile(join(dataDir, "postgresql.conf"), lines.join(""), { flag: "a" });
    for (let attempt = 1; ; attempt += 1) {
      port = await freePort();
      try {
        await start();
        break;
      } catch (error) {
        // Between the probe and the start another process may have taken the port.
        if (attempt === 5 || !String(error).includes("Address already in use")) throw error;
        await rm(logFile, { force: true });
      }
    }
    if (!options.copy) await sql("postgres", `alter role ${superuser} password '${password}'`);
  } catch (error) {
    await dispose();
    throw error;
  }

  return {
    major,
    port,
    socketDir,
    dataDir,
    logFile,
    superuser,
    password,
    binDir,
    owner,
    sql,
    start,
    stop,
    [Symbol.asyncDispose]: dispose,
  };
}
