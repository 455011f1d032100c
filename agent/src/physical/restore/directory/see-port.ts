import { once } from "node:events";
import { createServer } from "node:net";
import { join } from "node:path";
import { fail } from "@coppice/proto/kit/failure";
import type { Sight } from "../../../host/look.ts";
import { readPostmasterFile, readSystemIdentifier } from "../../../postgres/control-data.ts";
import { readIfThere } from "../settings/configuration.ts";
import { readPidOf } from "./running-server.ts";

async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  // Not to be had while anybody listens there on any address.
  server.listen({ port, host: "0.0.0.0", exclusive: true });
  try {
    await once(server, "listening");
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "EADDRINUSE") return false;
    throw error;
  }
  const closed = once(server, "close");
  server.close();
  await closed;
  return true;
}

/** Where a backup was taken. */
export interface PortSource {
  readonly dataDirectory: string;
  readonly systemIdentifier: string;
}

/** Whether the server was started with a port that need not be that of its configuration. */
async function isPortGiven(dataDirectory: string): Promise<boolean> {
  const started = (await readIfThere(join(dataDirectory, "postmaster.opts"))) ?? "";
  return /"(-p|--port=|port=|-cport=)\d*"/.test(started);
}

/** That of the backup's configuration is known beforehand where the server that it was taken of runs here. */
async function seeConfigured({ dataDirectory, systemIdentifier }: PortSource, place: string): Promise<Sight> {
  const message = "the server's port is that of its configuration";
  // A server of the very directory is in the way by itself, and stopped by then.
  if (dataDirectory === place) return { message };
  if ((await readPidOf(dataDirectory).catch(() => undefined)) === undefined) return { message };
  const running = await readPostmasterFile(dataDirectory);
  if (running === undefined || running === "closed") return { message };
  // On another host that may be any other server.
  if ((await readSystemIdentifier(dataDirectory)) !== systemIdentifier) return { message };
  const taken = `the server in ${dataDirectory} listens on port ${running.port}, which would be its too`;
  if (await isPortGiven(dataDirectory))
    return { message, warning: `${taken} if that is in its configuration: name another one with --port` };
  return fail("PORT_IN_USE", `${taken} by its configuration`);
}

/**
 * Whether the server that is restored into `place` can have its port; 0 is the one of its configuration, which its source
 * has too. Fails with PORT_IN_USE, and with INVALID_FIELD for one that only root may have.
 */
export async function seePort(port: number, source: PortSource, place: string): Promise<Sight> {
  if (port === 0) return await seeConfigured(source, place);
  // Its user is never root.
  const least = Number((await readIfThere("/proc/sys/net/ipv4/ip_unprivileged_port_start")) ?? "1024");
  if (port < least)
    return fail("INVALID_FIELD", `a server may not listen on port ${port}, which is kept for root`, {
      hint: `name a port from ${least} on: --port`,
    });
  if (await isFree(port)) return { message: `the port ${port} is free` };
  return fail("PORT_IN_USE", `something listens on port ${port} already`);
}
