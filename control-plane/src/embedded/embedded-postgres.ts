import type { ChildProcess } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { chmod, chown, lstat, mkdir, open, readFile, rename, rm, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { catalogClusterName } from "@coppice/proto/kit/catalog-cluster";
import { fail } from "@coppice/proto/kit/failure";
import { sleep } from "@coppice/proto/kit/sleep";
import { findBinaries } from "./binaries.ts";
import { holdExclusively } from "./exclusive.ts";
import { choosePlace, folderFile } from "./place.ts";
import { findPostmaster, findSocketFolder, isReady, stopPostmaster } from "./postmaster.ts";
import { runBinary, startBinary } from "./run-binary.ts";
import { chooseServerUser, type ServerUser } from "./server-user.ts";

/** A PostgreSQL server of our own; disposing stops it. */
export interface EmbeddedPostgres extends AsyncDisposable {
  /** Connection URL, password included: never log it. */
  readonly url: string;
  /** Folder where it lives. */
  readonly folder: string;
  /** User it runs as, when that is another one than ours. */
  readonly user: string | undefined;
}

const superuser = "coppice";
/** Of the superuser; in the data folder. */
const passwordFile = "postgresql-password";
/** No TCP; and no statement or value in the server's log: secrets pass through them, if only sealed. */
const settings = {
  cluster_name: catalogClusterName,
  listen_addresses: "",
  unix_socket_permissions: "0700",
  max_connections: "60",
  shared_buffers: "64MB",
  log_statement: "none",
  log_min_error_statement: "panic",
  log_parameter_max_length_on_error: "0",
};
const startMs = 60_000;
const stopMs = 20_000;

/**
 * Starts the PostgreSQL that comes with Coppice on a data directory in the data folder, which is made on first use.
 * It listens on a Unix socket in a folder of its own only. A server that an earlier control plane left running is
 * stopped first. Errors: CONFIGURATION_INVALID, PROGRAM_FAILED.
 */
export async function openEmbeddedPostgres(options: {
  dataDirectory: string;
  signal: AbortSignal;
}): Promise<EmbeddedPostgres> {
  const { dataDirectory, signal } = options;
  await using opening = new AsyncDisposableStack();
  opening.use(await holdExclusively(join(dataDirectory, "postgresql.lock")));
  const user = await chooseServerUser();
  const { folder, binaries } = await choosePlace(dataDirectory, await findBinaries(), user);
  const directory = join(folder, "data");
  const password = await initialise({ dataDirectory, folder, directory, binaries, user });
  const orphan = await findPostmaster(directory);
  if (orphan !== undefined) await stopPostmaster(orphan, stopMs);
  const socketFolder = await makeSocketFolder(folder, user);
  if (!socketFolder.startsWith(folder)) opening.defer(() => rm(socketFolder, { recursive: true, force: true }));

  const logFile = join(folder, "postgresql.log");
  await using log = await open(logFile, "w", 0o600);
  const server = startBinary({
    file: join(binaries, "bin/postgres"),
    args: [
      "-D",
      directory,
      "-k",
      socketFolder,
      ...Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`]),
    ],
    user,
    stderr: log.fd,
  });
  opening.defer(() => stopServer(server));
  await waitUntilReady(server, directory, logFile, signal);
  const resources = opening.move();
  return {
    url: formatUrl(password, socketFolder),
    folder,
    user: user?.name,
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}

/**
 * Connection URL of the server that a control plane is running on the data folder; undefined when none runs. For
 * commands beside it.
 */
export async function findRunningServer(dataDirectory: string): Promise<string | undefined> {
  const elsewhere = await readIfThere(join(dataDirectory, folderFile));
  const socketFolder = await findSocketFolder(join(elsewhere?.trim() ?? join(dataDirectory, "postgresql"), "data"));
  const password = await readIfThere(join(dataDirectory, passwordFile));
  return socketFolder === undefined || password === undefined ? undefined : formatUrl(password.trim(), socketFolder);
}

function formatUrl(password: string, socketFolder: string): string {
  const query = new URLSearchParams({ host: socketFolder });
  return `postgres://${superuser}:${password}@localhost/postgres?${query.toString()}`;
}

interface Initialisation {
  readonly dataDirectory: string;
  readonly folder: string;
  readonly directory: string;
  readonly binaries: string;
  readonly user: ServerUser | undefined;
}

/** Makes the data directory when there is none, whole or not at all; gives the superuser's password. */
async function initialise({ dataDirectory, folder, directory, binaries, user }: Initialisation): Promise<string> {
  const secret = join(dataDirectory, passwordFile);
  const existing = await readIfThere(secret);
  if (existing !== undefined && (await isThere(join(directory, "PG_VERSION")))) return existing.trim();
  if (await isThere(directory)) {
    fail("CONFIGURATION_INVALID", `${directory} holds a catalog and ${secret} is missing`, {
      hint: "put the password file back, or choose another data folder",
    });
  }
  const password = randomBytes(24).toString("base64url");
  const forInitdb = join(folder, "initdb-password");
  const half = `${directory}.new`;
  await rm(half, { recursive: true, force: true });
  await rm(forInitdb, { force: true });
  await writeFile(forInitdb, password, { mode: 0o600, flag: "wx" });
  try {
    if (user !== undefined) await chown(forInitdb, user.uid, user.gid);
    const initdb = join(binaries, "bin/initdb");
    const { code, messages } = await runBinary({
      file: initdb,
      args: [
        "-D",
        half,
        "-U",
        superuser,
        "--pwfile",
        forInitdb,
        "--auth",
        "scram-sha-256",
        "--encoding",
        "UTF8",
        "--no-locale",
        "--no-instructions",
      ],
      user,
    });
    if (code !== 0) {
      fail("PROGRAM_FAILED", `${basename(initdb)} of the embedded catalog ended with ${code}: ${messages.trim()}`);
    }
  } finally {
    await rm(forInitdb, { force: true });
  }
  await writeFile(secret, `${password}\n`, { mode: 0o600 });
  await rename(half, directory);
  return password;
}

/**
 * Names of sockets are short by the system's own limit, so a deep folder has its socket under /tmp, in one whose name
 * follows from the folder: after a crash it is found again.
 */
async function makeSocketFolder(folder: string, user: ServerUser | undefined): Promise<string> {
  const near = join(folder, "socket");
  const hash = createHash("sha256").update(folder).digest("hex").slice(0, 16);
  const chosen = Buffer.byteLength(near) > 80 ? `/tmp/coppice-${hash}` : near;
  await mkdir(chosen, { recursive: true, mode: 0o700 });
  const { uid } = await lstat(chosen);
  if (uid !== process.getuid?.() && uid !== user?.uid)
    fail("CONFIGURATION_INVALID", `${chosen} belongs to user ${uid}`);
  await chmod(chosen, 0o700);
  if (user !== undefined) await chown(chosen, user.uid, user.gid);
  return chosen;
}

async function waitUntilReady(server: ChildProcess, directory: string, logFile: string, signal: AbortSignal) {
  const { pid } = server;
  if (pid === undefined) {
    const [cause] = (await once(server, "error")) as [unknown];
    fail("PROGRAM_FAILED", "the embedded PostgreSQL cannot be started", { cause });
  }
  const patience = AbortSignal.any([signal, AbortSignal.timeout(startMs)]);
  while (!(await isReady(directory, pid))) {
    if (server.exitCode !== null || server.signalCode !== null) {
      const last = (await readFile(logFile, "utf8")).trim().split("\n").slice(-5).join("; ");
      fail("PROGRAM_FAILED", `the embedded PostgreSQL ended while it started: ${last}`, {
        hint: `read ${logFile}`,
      });
    }
    await sleep(20, patience);
  }
}

async function stopServer(server: ChildProcess): Promise<void> {
  if (server.pid === undefined || server.exitCode !== null || server.signalCode !== null) return;
  const ended = once(server, "exit");
  await stopPostmaster(server.pid, stopMs);
  await ended;
}

async function readIfThere(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, "utf8");
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw error;
  }
}

async function isThere(path: string): Promise<boolean> {
  try {
    await lstat(path);
    return true;
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return false;
    throw error;
  }
}
