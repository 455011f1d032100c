import { readdir, readFile, readlink, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { type FoundCluster, FoundClusterSchema } from "@coppice/proto/gen/coppice/agent/v1/found_cluster";
import { catalogClusterName } from "@coppice/proto/kit/catalog-cluster";
import { isFailure } from "@coppice/proto/kit/failure";
import { isInScratchFolder } from "@coppice/proto/kit/repository/restore-names";
import { lookUpUser } from "../host/os-user.ts";
import { readMajor, readPostmasterFile, readSystemIdentifier } from "./control-data.ts";

const debianConfiguration = "/etc/postgresql";

/** For what may vanish or be closed to us while we look: then it is not there for us, and undefined. */
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

async function listDebianClusters(configuration: string): Promise<DebianCluster[]> {
  const found: DebianCluster[] = [];
  for (const major of (await ifReadable(readdir(configuration))) ?? []) {
    for (const name of (await ifReadable(readdir(join(configuration, major)))) ?? []) {
      const text = await ifReadable(readFile(join(configuration, major, name, "postgresql.conf"), "utf8"));
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

/** A process of a PostgreSQL server; what may not be seen of it is undefined. */
interface ServerProcess {
  /** Its working folder, which is the data directory; only its own user and root may see it. */
  readonly folder: string | undefined;
  /** Of a postmaster, as its command line says, which everybody may see. */
  readonly dataDirectory: string | undefined;
  readonly socketDirectory: string | undefined;
  /** Whether it is the postmaster that a control plane keeps its catalog in. */
  readonly isCatalog: boolean;
}

function argumentAfter(args: readonly string[], option: string): string | undefined {
  const index = args.indexOf(option);
  return index === -1 ? undefined : args[index + 1];
}

/** The processes of PostgreSQL servers on this host. */
async function listServerProcesses(): Promise<ServerProcess[]> {
  const found: ServerProcess[] = [];
  for (const pid of await readdir("/proc")) {
    if (!/^\d+$/.test(pid)) continue;
    const program = (await ifReadable(readFile(`/proc/${pid}/comm`, "utf8")))?.trim();
    if (program !== "postgres" && program !== "postmaster") continue;
    const args = ((await ifReadable(readFile(`/proc/${pid}/cmdline`, "utf8"))) ?? "").split("\0");
    found.push({
      folder: await ifReadable(readlink(`/proc/${pid}/cwd`)),
      dataDirectory: argumentAfter(args, "-D"),
      socketDirectory: argumentAfter(args, "-k"),
      isCatalog: args.includes(`cluster_name=${catalogClusterName}`),
    });
  }
  return found;
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

interface RunState {
  readonly running: boolean;
  readonly runningUnknown?: string;
  readonly port?: number;
  readonly socketDirectory?: string;
}

async function readRunState(dataDirectory: string, processes: readonly ServerProcess[]): Promise<RunState> {
  const postmaster = await readPostmasterFile(dataDirectory);
  if (postmaster !== undefined && postmaster !== "closed") {
    const { pid, port, socketDirectory } = postmaster;
    if ((await ifReadable(stat(`/proc/${pid}`))) !== undefined) return { running: true, port, socketDirectory };
  }
  if (processes.some((process) => process.dataDirectory === dataDirectory)) return { running: true };
  return postmaster === "closed"
    ? {
        running: false,
        runningUnknown: `the agent, as uid ${process.geteuid?.()}, may not read ${dataDirectory}/postmaster.pid`,
      }
    : { running: false };
}

async function describeDirectory(
  dataDirectory: string,
  processes: readonly ServerProcess[],
  signal: AbortSignal,
): Promise<FoundCluster | undefined> {
  const folder = await ifReadable(stat(dataDirectory));
  if (!folder) return undefined;
  return create(FoundClusterSchema, {
    dataDirectory,
    owner: await ownerName(folder.uid, signal),
    major: (await readMajor(dataDirectory)) ?? 0,
    systemIdentifier: (await readSystemIdentifier(dataDirectory)) ?? "",
    ...(await readRunState(dataDirectory, processes)),
  });
}

/**
 * The PostgreSQL clusters of this host: running ones by their processes and sockets, Debian's stopped ones by their
 * configuration, from the folder `configuration`; not the servers of control planes, nor those that a restore uses for a while. What the agent's user may not see is
 * left empty, or said in runningUnknown. Throws only the signal's reason.
 */
export async function discoverClusters(
  signal: AbortSignal,
  configuration: string = debianConfiguration,
): Promise<FoundCluster[]> {
  const debian = await listDebianClusters(configuration);
  const all = await listServerProcesses();
  const catalogs = all.filter(({ isCatalog }) => isCatalog);
  // A folder that may not be seen is nobody's.
  const isCatalogs = (folder: string | undefined) =>
    folder !== undefined && catalogs.some((catalog) => folder === catalog.folder || folder === catalog.dataDirectory);
  // A catalog's other processes have its working folder, and no command line of their own.
  const processes = all.filter(({ isCatalog, folder }) => !isCatalog && !isCatalogs(folder));
  const folders = new Set(
    [...processes.map(({ folder }) => folder), ...debian.map(({ dataDirectory }) => dataDirectory)].filter(
      (folder) => folder !== undefined,
    ),
  );
  const found: FoundCluster[] = [];
  for (const folder of folders) {
    signal.throwIfAborted();
    if (isInScratchFolder(folder)) continue;
    const cluster = await describeDirectory(folder, processes, signal);
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
    if (catalogs.some((catalog) => catalog.socketDirectory === socketDirectory)) continue;
    if (isInScratchFolder(socketDirectory)) continue;
    const socket = await ifReadable(stat(join(socketDirectory, `.s.PGSQL.${port}`)));
    const known = found.find(
      (cluster) => cluster.port === port && (cluster.running || cluster.socketDirectory === socketDirectory),
    );
    if (known) Object.assign(known, { running: true, runningUnknown: "" });
    if (!socket || known) continue;
    const owner = await ownerName(socket.uid, signal);
    found.push(create(FoundClusterSchema, { socketDirectory, port, running: true, owner }));
  }
  return found.sort((a, b) => a.port - b.port || a.dataDirectory.localeCompare(b.dataDirectory));
}
