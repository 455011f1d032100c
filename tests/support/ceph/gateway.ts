import { once } from "node:events";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { freePort } from "../free-port.ts";
import { startDaemon, untilReady } from "./programs.ts";

/** One running S3 server (radosgw) of a cluster. */
export interface Gateway extends AsyncDisposable {
  /** Address by http, on 127.0.0.1. */
  readonly endpoint: string;
  /** Address by https; its certificate is signed by the lab's own authority. */
  readonly tlsEndpoint: string;
  /** SIGSTOP, SIGCONT, SIGKILL: a server that hangs takes connections and answers nothing. */
  signal(signal: NodeJS.Signals): void;
}

/** Starts a gateway of the cluster in the folder; it ends with this process. `options` are radosgw's own. */
export async function startGateway(folder: string, options: readonly string[] = []): Promise<Gateway> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await startOnce(folder, options);
    } catch (error) {
      // Between the probe and the start another process may have taken a port.
      if (attempt === 3) throw error;
    }
  }
}

async function startOnce(folder: string, options: readonly string[]): Promise<Gateway> {
  const port = await freePort();
  const tlsPort = await freePort();
  const endpoint = `http://127.0.0.1:${port}`;
  const certificate = `ssl_certificate=${folder}/cert.pem ssl_private_key=${folder}/key.pem`;
  const logFile = join(folder, `gateway-${port}.out`);
  const child = startDaemon(
    "radosgw",
    [
      `--conf=${join(folder, "ceph.conf")}`,
      "--name=client.rgw",
      "-f",
      `--log-file=${folder}/gateway-${port}.log`,
      `--rgw_frontends=beast endpoint=127.0.0.1:${port} ssl_endpoint=127.0.0.1:${tlsPort} ${certificate}`,
      ...options,
    ],
    logFile,
  );
  const gateway: Gateway = {
    endpoint,
    tlsEndpoint: `https://127.0.0.1:${tlsPort}`,
    signal: (signal) => void child.kill(signal),
    async [Symbol.asyncDispose]() {
      if (child.exitCode === null && child.signalCode === null) {
        // Killed at once it would be waited for by the others; with requests stuck it can ignore SIGTERM.
        const kill = setTimeout(() => child.kill("SIGKILL"), 5_000);
        child.kill("SIGCONT");
        child.kill("SIGTERM");
        await once(child, "exit");
        clearTimeout(kill);
      }
      await rm(logFile, { force: true });
    },
  };
  try {
    await untilReady(`radosgw on port ${port}`, { child, logFile }, () => answers(endpoint));
    return gateway;
  } catch (error) {
    await gateway[Symbol.asyncDispose]();
    throw error;
  }
}

async function answers(endpoint: string): Promise<boolean> {
  try {
    const response = await fetch(endpoint, { signal: AbortSignal.timeout(5000) });
    await response.arrayBuffer();
    return response.status === 200;
  } catch (error) {
    if (error instanceof TypeError || (error instanceof Error && error.name === "TimeoutError")) return false;
    throw error;
  }
}
