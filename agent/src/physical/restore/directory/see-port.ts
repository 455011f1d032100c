import { once } from "node:events";
import { createServer } from "node:net";
import { fail } from "@coppice/proto/kit/failure";
import type { Sight } from "../../../host/look.ts";
import { readPostmasterFile } from "../../../postgres/control-data.ts";
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

/**
 * Whether a restored server can have its port; 0 is the one of its configuration, which its source has too: `source` is
 * where that was. Fails with PORT_IN_USE, and with INVALID_FIELD for one that only root may have.
 */
export async function seePort(port: number, source: string): Promise<Sight> {
  if (port !== 0) {
    // Its user is never root.
    const least = Number((await readIfThere("/proc/sys/net/ipv4/ip_unprivileged_port_start")) ?? "1024");
    if (port < least)
      return fail("INVALID_FIELD", `a server may not listen on port ${port}, which is kept for root`, {
        hint: `name a port from ${least} on: --port`,
      });
    if (await isFree(port)) return { message: `the port ${port} is free` };
    return fail("PORT_IN_USE", `something listens on port ${port} already`);
  }
  const message = "the server's port is that of its configuration";
  const running =
    (await readPidOf(source).catch(() => undefined)) === undefined ? undefined : await readPostmasterFile(source);
  if (running === undefined || running === "closed") return { message };
  return {
    message,
    warning: `the server in ${source} listens on port ${running.port}, which would be its too: name another one with --port`,
  };
}
