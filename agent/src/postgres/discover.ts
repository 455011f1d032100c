import { readdir, readFile, readlink, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { type FoundCluster, FoundClusterSchema } from "@coppice/proto/gen/coppice/agent/v1/found_cluster";
import { isFailure } from "@coppice/proto/kit/failure";
import { lookUpUser } from "../host/os-user.ts";
import { readMajor, readPostmasterFile, readSystemIdentifier } from "./control-data.ts";

const debianConfiguration = "/etc/postgresql";

/** For what may vanish or be closed to us while we look: then it is not there for us. */
async function ifReadable<T>(promise: Promise<T>): Promise<T | undefined> {
  try {
    return await promise;
  } catch (error) {
    const code = error instanceof Error && "code" in error ? String(error.code) : "";
    if (["ENOENT", "ENOTDIR", "EACCES", "EPERM", "ESRCH"].includes(code)) return undefined;
    throw error;
  }
}

async function ownerName(uid: number, signal: AbortSignal): Promise<string> {
  try {
    return (await lookUpUser(uid, signal)).name;
  } catch (error) {
    if (isFailure(error, "OS_USER_NOT_FOUND")) return String(uid);
    throw error;
  }
}

/** A setting of Debian's postgresql.conf, which always holds these in one plain line. */
function readSetting(text: string, name: string): string | undefined {
  const line = new RegExp(`^\\s*${name}\\s*=\\s*(?:'([^']*)'|([^\\s#]+))`, "m").exec(text);
  return line?.[1] ?? line?.[2];
}

interface DebianCluster {
  readonly name: string;
  readonly dataDirectory: string;
  readonly port: number;
  readonly socketDirectory: string;
}

async function listDebianClusters(): Promise<DebianCluster[]> {
  const found: DebianCluster[] = [];
  for (const major of (await ifReadable(readdir(debianConfiguration))) ?? []) {
    for (const name of (await ifReadable(readdir(join(debianConfiguration, major)))) ?? []) {
      const text = await ifReadable(readFile(join(debianConfiguration, major, name, "postgresql.conf"), "utf8"));
      if (text === undefined) continue;
      found.push({
        name: `${major}/${name}`,
        dataDirectory: readSetting(text, "data_directory") ?? `/var/lib/postgresql/${major}/${name}`,
        port: Number(readSetting(text, "port") ?? "5432"),
        socketDirectory:
          (readSetting(text, "unix_socket_directories") ?? "/var/run/postgresql").split(",")[0]?.trim() ?? "",
      });
    }
  }
  return found;
}

/** Data directories of running postmasters, which are the working folders of their processes. */
async function listRunningDirectories(): Promise<string[]> {
  const found = new Set<string>();
  for (const pid of await readdir("/proc")) {
    if (!/^\d+$/.test(pid)) continue;
    const program = (await ifReadable(readFile(`/proc/${pid}/comm`, "utf8")))?.trim();
    if (program !== "postgres" && program !== "postmaster") continue;
    const folder = await ifReadable(readlink(`/proc/${pid}/cwd`));
    if (folder) found.add(folder);
  }
  return [...found];
}

/** Sockets that are listened on, whoever owns the server: the folder and the number in the name. */
async function listSockets(): Promise<{ socketDirectory: string; port: number }[]> {
  const text = (await ifReadable(readFile("/proc/net/unix", "utf8"))) ?? "";
  const paths = new Set([...text.matchAll(/ (\/\S.*\/\.s\.PGSQL\.\d+)$/gm)].map((match) => match[1] ?? ""));
  return [...paths].map((path) => ({
    socketDirectory: dirname(path),
    port: Number(basename(path).slice(".s.PGSQL.".length)),
  }));
}

async function describeDirectory(dataDirectory: string, signal: AbortSignal): Promise<FoundCluster | undefined> {
  const folder = await ifReadable(stat(dataDirectory));
  if (!folder) return undefined;
  const postmaster = await readPostmasterFile(dataDirectory);
  const isRunning = postmaster !== undefined && (await ifReadable(stat(`/proc/${postmaster.pid}`))) !== undefined;
  return create(FoundClusterSchema, {
    dataDirectory,
    owner: await ownerName(folder.uid, signal),
    running: isRunning,
    major: (await readMajor(dataDirectory)) ?? 0,
    systemIdentifier: (await readSystemIdentifier(dataDirectory)) ?? "",
    ...(isRunning ? { port: postmaster.port, socketDirectory: postmaster.socketDirectory } : {}),
  });
}

/**
 * The PostgreSQL clusters of this host: running ones by their processes and sockets, Debian's stopped ones by their
 * configuration. What the agent's user may not see is left empty. Throws only the signal's reason.
 */
export async function discoverClusters(signal: AbortSignal): Promise<FoundCluster[]> {
  const debian = await listDebianClusters();
  const folders = new Set([...(await listRunningDirectories()), ...debian.map(({ dataDirectory }) => dataDirectory)]);
  const found: FoundCluster[] = [];
  for (const folder of folders) {
    signal.throwIfAborted();
    const cluster = await describeDirectory(folder, signal);
    if (cluster) found.push(cluster);
  }
  for (const configured of debian) {
    const cluster = found.find(({ dataDirectory }) => dataDirectory === configured.dataDirectory);
    if (!cluster) continue;
    cluster.debianName = configured.name;
    cluster.port ||= configured.port;
    cluster.socketDirectory ||= configured.socketDirectory;
    cluster.major ||= Number.parseInt(configured.name, 10);
  }
  for (const { socketDirectory, port } of await listSockets()) {
    const socket = await ifReadable(stat(join(socketDirectory, `.s.PGSQL.${port}`)));
    const known = found.find(
      (cluster) => cluster.port === port && (cluster.running || cluster.socketDirectory === socketDirectory),
    );
    if (known) known.running = true;
    if (!socket || known) continue;
    const owner = await ownerName(socket.uid, signal);
    found.push(create(FoundClusterSchema, { socketDirectory, port, running: true, owner }));
  }
  return found.sort((a, b) => a.port - b.port || a.dataDirectory.localeCompare(b.dataDirectory));
}
