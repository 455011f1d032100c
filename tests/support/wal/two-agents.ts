// One thing: two agents as processes of their own, and what a test of who archives asks of them and their control plane.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { WalMode } from "@coppice/proto/gen/coppice/common/v1/wal_archive";
import { ClusterService, type WalArchive } from "@coppice/proto/gen/coppice/control/v1/cluster";
import { FindingService } from "@coppice/proto/gen/coppice/control/v1/finding";
import { OperationService, OperationState } from "@coppice/proto/gen/coppice/control/v1/operation";
import { RepositoryService } from "@coppice/proto/gen/coppice/control/v1/repository";
import { parseLsn } from "@coppice/proto/kit/wal/lsn";
import { expect } from "vitest";
import { writeIdentity } from "../../../agent/src/session/identity.ts";
import type { ControlPlaneLab } from "../control-plane-lab.ts";
import type { PostgresServer } from "../postgres-servers.ts";

const main = fileURLToPath(new URL("../../../agent/src/main.ts", import.meta.url));
const patient = { timeout: 60_000, interval: 100 };

/** An agent of a host, as a process. */
export interface AgentProcess {
  readonly host: string;
  /** What it has logged since it was started last. */
  said(): string;
  start(): void;
  kill(): Promise<void>;
}

/** A cluster whose WAL either agent can archive into one folder. */
export interface MovableArchive {
  /** Folder of the repository. */
  readonly repository: string;
  archive(): Promise<WalArchive>;
  /** Has the cluster protected by that agent from now on; at another server, where one is given. */
  moveTo(agent: AgentProcess, server?: PostgresServer): Promise<void>;
  /** Waits until the agent owns the WAL, and everything before the position is stored by it without trouble. */
  stored(agent: AgentProcess, lsn: bigint): Promise<WalArchive>;
  /** Rules of what is wrong now. */
  findings(): Promise<string[]>;
}

/** The agents of two hosts, that run until they are disposed of. */
export interface TwoAgents extends AsyncDisposable {
  readonly agents: readonly [AgentProcess, AgentProcess];
  /** Has the first one protect a cluster of that name, and archive its WAL from now on: received, or handed over. */
  protect(cluster: string, server: PostgresServer, mode?: WalMode): Promise<MovableArchive>;
}

/** Enrols and starts them. */
export async function openTwoAgents(lab: ControlPlaneLab): Promise<TwoAgents> {
  await using opening = new AsyncDisposableStack();
  const folder = await mkdtemp(join(tmpdir(), "coppice-two-agents-"));
  opening.defer(() => rm(folder, { recursive: true, force: true, maxRetries: 5 }));
  // A server that hands WAL over has to pass through, to the sockets.
  await chmod(folder, 0o711);
  const open = async (host: string) => {
    const dataDirectory = join(folder, host);
    await mkdir(dataDirectory, { mode: 0o711 });
    await writeIdentity(dataDirectory, await lab.enrol(host));
    const agent = agentProcess(host, dataDirectory);
    opening.defer(() => agent.kill());
    agent.start();
    return agent;
  };
  const agents = [await open("one"), await open("two")] as const;
  const resources = opening.move();
  return {
    agents,
    protect: (cluster, server, mode = WalMode.STREAM) =>
      protect(lab, { cluster, server, mode, host: agents[0].host, folder: join(folder, cluster) }),
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}

async function protect(
  lab: ControlPlaneLab,
  of: {
    readonly cluster: string;
    readonly server: PostgresServer;
    readonly mode: WalMode;
    readonly host: string;
    readonly folder: string;
  },
): Promise<MovableArchive> {
  const { cluster, server, mode, host, folder: repository } = of;
  await mkdir(repository);
  const clusters = lab.client(ClusterService);
  const repositories = lab.client(RepositoryService);
  await clusters.createCluster({ name: cluster, host, endpoint: endpointOf(server), password: server.password });
  const location = { kind: { case: "filesystem" as const, value: { path: repository, shared: true } } };
  await repositories.createRepository({ name: cluster, homeHost: host, location });
  const succeeds = async ({ id }: { readonly id: string }) => {
    const state = async () => (await lab.client(OperationService).getOperation({ operation: id })).state;
    await expect.poll(state, patient).toBe(OperationState.SUCCEEDED);
  };
  await succeeds(await repositories.checkRepository({ repository: cluster }));
  await succeeds(await clusters.checkCluster({ cluster }));
  await clusters.updateWalArchive({ cluster, repository: cluster, settings: { mode, maxAge: { seconds: 1n } } });
  const archive = () => clusters.getWalArchive({ cluster });
  return {
    repository,
    archive,
    async moveTo(agent, other) {
      const endpoint = other && { endpoint: endpointOf(other) };
      const updateMask = { paths: ["host", ...(endpoint ? ["endpoint"] : [])] };
      await clusters.updateCluster({ cluster, host: agent.host, updateMask, ...endpoint });
    },
    async stored(agent, lsn) {
      const isStored = async () => {
        const { hostName, storedLsn, trouble, ownership } = await archive();
        const isHeld = hostName === agent.host && ownership?.nextHost === "";
        return isHeld && trouble === undefined && storedLsn !== "" && parseLsn(storedLsn) >= lsn;
      };
      await expect.poll(isStored, { ...patient, message: `${agent.host} has stored enough` }).toBe(true);
      return await archive();
    },
    async findings() {
      const { findings } = await lab.client(FindingService).listFindings({});
      return findings.filter(({ subjectName }) => subjectName === cluster).map(({ rule }) => rule);
    },
  };
}

const endpointOf = ({ port, superuser }: PostgresServer) => ({
  address: { case: "host" as const, value: "127.0.0.1" },
  port,
  user: superuser,
  sslmode: "disable",
});

function agentProcess(host: string, dataDirectory: string): AgentProcess {
  let running: ReturnType<typeof run> | undefined;
  const run = () => {
    const child = spawn(process.execPath, [main, "run", "--data-dir", dataDirectory], {
      stdio: ["ignore", "ignore", "pipe"],
      env: { PATH: process.env["PATH"], COPPICE_AGENT_LOG_LEVEL: "info" },
    });
    const ended = once(child, "exit");
    const lines: string[] = [];
    child.stderr.on("data", (chunk: Buffer) => lines.push(chunk.toString("utf8")));
    return { child, ended, lines };
  };
  return {
    host,
    said: () => running?.lines.join("") ?? "",
    start: () => void (running = run()),
    async kill() {
      running?.child.kill("SIGKILL");
      await running?.ended;
    },
  };
}
