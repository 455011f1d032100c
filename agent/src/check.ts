import { X509Certificate } from "node:crypto";
import { homedir, userInfo } from "node:os";
import { create } from "@bufbuild/protobuf";
import type { FoundCluster } from "@coppice/proto/gen/coppice/agent/v1/found_cluster";
import { CheckStatus } from "@coppice/proto/gen/coppice/common/v1/check";
import { ConnectionSchema } from "@coppice/proto/gen/coppice/common/v1/connection";
import { isFailure } from "@coppice/proto/kit/failure";
import type { Config } from "./config.ts";
import { checkCluster } from "./postgres/check/check.ts";
import { discoverClusters } from "./postgres/discover.ts";
import { agentClientFiles } from "./postgres/endpoint.ts";
import { findTools } from "./postgres/tools.ts";
import { readIdentity } from "./session/identity.ts";
import { checkServer } from "./session/server-chain.ts";

type Print = (line: string) => void;

interface Seen {
  readonly name: string;
  readonly status: CheckStatus;
  readonly message: string;
  readonly fix: string;
}

const connectBoundMs = 10_000;
const marks: Readonly<Record<CheckStatus, string>> = {
  [CheckStatus.UNSPECIFIED]: "?",
  [CheckStatus.OK]: "✓",
  [CheckStatus.WARNING]: "!",
  [CheckStatus.FAILED]: "✗",
};

/** Looks at everything the agent needs on this host and prints it; changes nothing. True when nothing failed. */
export async function checkAgent(config: Config, print: Print, signal: AbortSignal): Promise<boolean> {
  const { username, uid } = userInfo();
  print(`✓ user: runs as ${username} (uid ${uid})`);
  const seen: Seen[] = [];
  const show = (item: Seen) => {
    seen.push(item);
    print(`${marks[item.status]} ${item.name}: ${item.message}`);
    if (item.fix) print(`  next: ${item.fix}`);
  };
  const clusters = await discoverClusters(signal);
  if (clusters.length === 0)
    print("! clusters: no PostgreSQL cluster was found on this host; remote ones can be added");
  for (const cluster of clusters) await lookAtCluster(cluster, show, signal);
  await lookAtControlPlane(config, show, signal);
  return seen.every(({ status }) => status !== CheckStatus.FAILED);
}

async function lookAtCluster(cluster: FoundCluster, show: (item: Seen) => void, signal: AbortSignal): Promise<void> {
  const { socketDirectory, port, major, owner, running, runningUnknown, debianName, dataDirectory } = cluster;
  const name = `cluster ${debianName || dataDirectory || `${socketDirectory}:${port}`}`;
  const version = major === 0 ? "" : ` ${major}`;
  if (runningUnknown) {
    const message = `whether PostgreSQL${version} of ${owner} runs is unknown: ${runningUnknown}`;
    show({ name, status: CheckStatus.WARNING, message, fix: `run the check as ${owner} or as root` });
    return;
  }
  if (!running) {
    show({ name, status: CheckStatus.WARNING, message: `PostgreSQL${version} of ${owner} does not run`, fix: "" });
    return;
  }
  const connection = create(ConnectionSchema, {
    endpoint: {
      address: socketDirectory
        ? { case: "socketDirectory", value: socketDirectory }
        : { case: "host", value: "127.0.0.1" },
      port,
    },
  });
  const files = agentClientFiles(process.env, homedir());
  const { items } = await checkCluster({ connection, password: undefined, files, signal });
  for (const item of items) show({ ...item, name: `${name}: ${item.name}` });
  // Without a connection nobody has looked for the tools yet.
  if (major !== 0 && !items.some((item) => item.name === "tools")) show(await lookForTools(name, major, signal));
}

async function lookForTools(name: string, major: number, signal: AbortSignal): Promise<Seen> {
  return await look(`${name}: tools`, async () => {
    const { version, folder } = await findTools(major, { signal });
    return `tools ${version} in ${folder}`;
  });
}

async function lookAtControlPlane(config: Config, show: (item: Seen) => void, signal: AbortSignal): Promise<void> {
  let addresses: readonly string[] = [];
  let rootsPem: readonly string[] = [];
  show(
    await look("enrolment", async () => {
      const identity = await readIdentity(config.dataDirectory);
      addresses = identity.addresses;
      rootsPem = identity.trustedRootsPem;
      const { validToDate } = new X509Certificate(identity.certificateChainPem);
      return `${identity.hostName} (${identity.hostId}), certificate valid until ${validToDate.toISOString()}`;
    }),
  );
  for (const address of addresses) {
    show(
      await look("control plane", async () => {
        await checkServer(address, rootsPem, AbortSignal.any([signal, AbortSignal.timeout(connectBoundMs)]));
        return `${address} answers`;
      }),
    );
  }
}

async function look(name: string, work: () => Promise<string>): Promise<Seen> {
  try {
    return { name, status: CheckStatus.OK, message: await work(), fix: "" };
  } catch (error) {
    if (error instanceof Error && error.name === "TimeoutError") {
      const message = `no answer within ${connectBoundMs / 1000} s`;
      return { name, status: CheckStatus.FAILED, message, fix: "" };
    }
    if (!isFailure(error)) throw error;
    return { name, status: CheckStatus.FAILED, message: error.message, fix: error.hint };
  }
}
