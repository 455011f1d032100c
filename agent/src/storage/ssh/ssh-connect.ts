import { connect, isIPv6, type Socket } from "node:net";
import { once } from "node:events";
import type { SshLocation } from "@coppice/proto/gen/coppice/common/v1/location";
import { Failure } from "@coppice/proto/kit/failure";
import { raceSignal } from "@coppice/proto/kit/race";
import type { Client } from "ssh2";
import { hostKeyFailure, isPinned, parseHostKeys } from "./host-key.ts";
import { loadSsh2 } from "./load-ssh2.ts";
import type { SshKey } from "./ssh-key.ts";

/** A server that has proved its key and let us in. */
export interface SshConnection {
  readonly client: Client;
  readonly socket: Socket;
}

/** Host and port as people write them. */
export function serverName({ host, port }: SshLocation): string {
  return `${isIPv6(host) ? `[${host}]` : host}:${port || 22}`;
}

/**
 * Connects and logs in; `keepaliveMs` apart the server is asked whether it is there. Fails with
 * REPOSITORY_UNREACHABLE, HOST_KEY_UNTRUSTED, STORAGE_CREDENTIAL_REFUSED or the signal's reason.
 */
export async function connectSsh(
  location: SshLocation,
  key: SshKey,
  { keepaliveMs, signal }: { keepaliveMs: number; signal: AbortSignal },
): Promise<SshConnection> {
  const server = serverName(location);
  const pinned = parseHostKeys(server, location.hostKeys);
  const { Client } = await loadSsh2();
  const socket = connect({ host: location.host, port: location.port || 22, noDelay: true });
  const client = new Client();
  let seen: Buffer | undefined;
  try {
    await once(socket, "connect", { signal });
    const ready = Promise.withResolvers<void>();
    client.once("ready", ready.resolve);
    // It stays: an error without a listener would end the process.
    client.on("error", ready.reject);
    client.once("close", () => ready.reject(new Error("the connection was closed")));
    client.connect({
      sock: socket,
      username: location.user,
      privateKey: key.text,
      ...(key.passphrase === "" ? {} : { passphrase: key.passphrase }),
      authHandler: ["publickey"],
      algorithms: { serverHostKey: [...pinned.algorithms] },
      hostVerifier: (shown: Buffer): boolean => {
        seen = shown;
        return isPinned(pinned, shown);
      },
      keepaliveInterval: keepaliveMs,
      // The session judges the silence, by all that arrives and not by these answers alone.
      keepaliveCountMax: Number.MAX_SAFE_INTEGER,
      readyTimeout: 0,
    });
    await raceSignal(ready.promise, signal);
    return { client, socket };
  } catch (error) {
    client.on("error", () => {});
    client.destroy();
    socket.destroy();
    signal.throwIfAborted();
    if ((seen && !isPinned(pinned, seen)) || messageOf(error).includes("no matching host key format")) {
      throw hostKeyFailure(server, pinned, seen);
    }
    throw connectFailure(error, server, `${location.user} with ${key.origin}`);
  }
}

function connectFailure(error: unknown, server: string, login: string): unknown {
  if (!(error instanceof Error)) return error;
  const options = { cause: error };
  if ("level" in error && error.level === "client-authentication") {
    return new Failure("STORAGE_CREDENTIAL_REFUSED", `${server} does not let in ${login}`, options);
  }
  const code = "code" in error && typeof error.code === "string" ? error.code : undefined;
  const said = (code && explained[code]) ?? code ?? messageOf(error);
  return new Failure("REPOSITORY_UNREACHABLE", `cannot connect to ${server}: ${said}`, {
    ...options,
    hint: "see that the SSH server runs and can be reached from the agent's host, then `coppice repository check`",
  });
}

const explained: Readonly<Record<string, string>> = {
  ECONNREFUSED: "nothing listens there (ECONNREFUSED)",
  EAI_AGAIN: "its name cannot be looked up now (EAI_AGAIN)",
  ENOTFOUND: "no host has that name (ENOTFOUND)",
};

const messageOf = (error: unknown) => (error instanceof Error ? error.message.toLowerCase() : "");
