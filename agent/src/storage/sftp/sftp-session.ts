import { Failure } from "@coppice/proto/kit/failure";
import { raceSignal } from "@coppice/proto/kit/race";
import type { SFTPWrapper } from "ssh2";
import type { SshConnection } from "../ssh/ssh-connect.ts";
import { SftpStatus } from "./sftp-status.ts";

/** How long a server may take; in milliseconds. */
export interface SshPatience {
  /** From looking up its name to the first answer of SFTP. */
  readonly connectMs: number;
  /** Without a byte from the server, though it is asked four times meanwhile. */
  readonly silenceMs: number;
  /** Without an answer to any request, although the server's SSH is alive: its disk hangs. */
  readonly answerMs: number;
  /** The same while an fsync is among the requests: that of a large file takes its time. */
  readonly syncMs: number;
}

/** SFTP over one connection. */
export interface SftpSession extends Disposable {
  /** Names of the extensions that the server announced. */
  readonly extensions: ReadonlySet<string>;
  /** True once the connection is gone; nothing more comes of this session then. */
  isLost(): boolean;
  /**
   * Sends one request and gives its answer. Fails with SftpStatus where the server refuses, with
   * REPOSITORY_UNREACHABLE when the connection is or gets lost, or with the signal's reason.
   */
  ask<T>(signal: AbortSignal, send: SendRequest<T>, options?: { isSync: boolean }): Promise<T>;
}

/** Sends a request by the library and settles with what its callback got. */
export type SendRequest<T> = (sftp: SFTPWrapper, settle: (error: Error | null | undefined, value: T) => void) => void;

interface Pending {
  readonly isSync: boolean;
  reject(error: unknown): void;
}

const checksInSilence = 4;

/** How often a server is to be asked whether it is there, for its silence to be noticed in time. */
export const keepaliveMs = ({ silenceMs }: SshPatience) => Math.ceil(silenceMs / checksInSilence);

/** Starts SFTP on a connection and watches over it; `name` is the storage's. Closing the session closes the connection. */
export async function openSftpSession(
  { client, socket }: SshConnection,
  { name, patience, signal }: { name: string; patience: SshPatience; signal: AbortSignal },
): Promise<SftpSession> {
  const pending = new Set<Pending>();
  let lostBy: Failure | undefined;
  const lose = (why: string, cause?: unknown) => {
    if (lostBy) return;
    lostBy = new Failure("REPOSITORY_UNREACHABLE", `repository ${name}: ${why}`, {
      cause,
      hint: "see that the SSH server runs and can be reached from the agent's host, then `coppice repository check`",
    });
    clearInterval(watch);
    for (const request of pending) request.reject(lostBy);
    pending.clear();
    client.end();
    client.destroy();
    socket.destroy();
  };

  let received = socket.bytesRead;
  let silentChecks = 0;
  let answeredAt = performance.now();
  const watch = setInterval(() => {
    // Counted and not timed, so that a process that was asleep itself does not blame the server.
    silentChecks = socket.bytesRead === received ? silentChecks + 1 : 0;
    received = socket.bytesRead;
    if (silentChecks > checksInSilence) lose(`the server has been silent for ${patience.silenceMs / 1000} s`);
    const limitMs = [...pending].some(({ isSync }) => isSync) ? patience.syncMs : patience.answerMs;
    if (pending.size > 0 && performance.now() - answeredAt > limitMs) {
      lose(`the server has not answered any request for ${limitMs / 1000} s`);
    }
  }, keepaliveMs(patience));
  watch.unref();

  client.on("error", (error) => lose("the connection broke", error));
  client.once("close", () => lose("the connection was closed"));

  const opened = Promise.withResolvers<SFTPWrapper>();
  pending.add({ isSync: false, reject: opened.reject });
  client.sftp((error, sftp) => (error ? opened.reject(error) : opened.resolve(sftp)));
  let sftp: SFTPWrapper;
  try {
    sftp = await raceSignal(opened.promise, signal);
  } catch (error) {
    lose("the server offers no SFTP", error);
    throw error instanceof Failure || signal.aborted ? error : lostBy;
  }
  pending.clear();
  sftp.on("error", (error: unknown) => lose("the server does not keep to SFTP", error));
  sftp.on("close", () => lose("the server ended SFTP"));

  return {
    extensions: announced(sftp),
    isLost: () => lostBy !== undefined,
    async ask<T>(asking: AbortSignal, send: SendRequest<T>, { isSync } = { isSync: false }): Promise<T> {
      asking.throwIfAborted();
      if (lostBy) throw lostBy;
      const answer = Promise.withResolvers<T>();
      const request: Pending = { isSync, reject: answer.reject };
      if (pending.size === 0) answeredAt = performance.now();
      pending.add(request);
      send(sftp, (error, value) => {
        if (!pending.delete(request)) return;
        answeredAt = performance.now();
        if (!error) return answer.resolve(value);
        const code = "code" in error ? error.code : undefined;
        if (typeof code === "number") return answer.reject(new SftpStatus(code, error.message));
        lose("the connection was lost", error);
        answer.reject(lostBy);
      });
      return raceSignal(answer.promise, asking);
    },
    [Symbol.dispose]: () => lose("it was closed"),
  };
}

/** The library keeps what the server announced to itself; without it nothing is taken for granted. */
function announced(sftp: SFTPWrapper): ReadonlySet<string> {
  const extensions: unknown = Reflect.get(sftp, "_extensions");
  return new Set(typeof extensions === "object" && extensions !== null ? Object.keys(extensions) : []);
}
