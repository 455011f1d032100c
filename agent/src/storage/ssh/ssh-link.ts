import type { SshLocation } from "@coppice/proto/gen/coppice/common/v1/location";
import type { StorageCredential } from "@coppice/proto/gen/coppice/common/v1/storage_credential";
import { Failure } from "@coppice/proto/kit/failure";
import { linkSignals, raceSignal } from "@coppice/proto/kit/race";
import { keepaliveMs, openSftpSession, type SftpSession, type SshPatience } from "../sftp/sftp-session.ts";
import { connectSsh, serverName } from "./ssh-connect.ts";
import { readSshKey } from "./ssh-key.ts";

/** A way to a server by one credential: connected when it is needed, and again when the connection was lost. */
export interface SshLink extends Disposable {
  /** The session, for as long as it lasts. Fails as `connectSsh` does; the next call tries anew. */
  session(signal: AbortSignal): Promise<SftpSession>;
}

/** Makes a link for a credential; undefined is the key of the agent's own user. Nothing is connected yet. */
export function makeSshLink(
  location: SshLocation,
  credential: StorageCredential | undefined,
  { name, patience }: { name: string; patience: SshPatience },
): SshLink {
  const closing = new AbortController();
  let current: Promise<SftpSession> | undefined;

  const open = async (): Promise<SftpSession> => {
    const limit = new AbortController();
    const tooSlow = `cannot connect to ${serverName(location)}: no answer within ${patience.connectMs / 1000} s`;
    const timer = setTimeout(() => limit.abort(new Failure("REPOSITORY_UNREACHABLE", tooSlow)), patience.connectMs);
    using both = linkSignals(closing.signal, limit.signal);
    try {
      const key = await readSshKey(location, credential);
      const { signal } = both;
      const connection = await connectSsh(location, key, { keepaliveMs: keepaliveMs(patience), signal });
      return await openSftpSession(connection, { name, patience, signal });
    } finally {
      clearTimeout(timer);
    }
  };

  return {
    async session(signal) {
      for (;;) {
        signal.throwIfAborted();
        closing.signal.throwIfAborted();
        const opening = (current ??= open());
        const forget = () => {
          if (current === opening) current = undefined;
        };
        // Callers share one attempt; it goes on when one of them is aborted.
        opening.catch(forget);
        const session = await raceSignal(opening, signal);
        if (!session.isLost()) return session;
        forget();
      }
    },
    [Symbol.dispose]() {
      closing.abort(new Failure("REPOSITORY_UNREACHABLE", `repository ${name} was closed`));
      current?.then(
        (session) => session[Symbol.dispose](),
        () => {},
      );
    },
  };
}
