import { Failure } from "@coppice/proto/kit/failure";
import { linkSignals, raceSignal } from "@coppice/proto/kit/race";

/** How long a file system may take over things. */
export interface FilesystemPatience {
  /** For one thing to come back, in milliseconds: a busy disk can sync for minutes. */
  readonly answerMs: number;
  /** For what was aborted to clear away behind itself. */
  readonly restMs: number;
}

/** For a disk of this host, or one that a server lends it. */
export const usualFilesystemPatience: FilesystemPatience = { answerMs: 300_000, restMs: 5_000 };

/** How work on a file system tells that it goes on, and learns that nobody waits for it any more. */
export interface Watched {
  /** Aborted with the caller's signal, and when the file system hangs. */
  readonly signal: AbortSignal;
  /** Something came back, and the next thing is waited for. */
  readonly beat: () => void;
  /** Nothing is asked of the file system until the next beat. */
  readonly rest: () => void;
}

/** Does work as watchFilesystem. */
export type Watch = <T>(work: (watched: Watched) => Promise<T>) => Promise<T>;

/**
 * Does work on a file system that may hang, as one does whose server is away. A call to it cannot be taken back: when the
 * signal is aborted, or nothing has come back for too long, the work gets a moment to clear away and is then left to
 * itself, whatever comes of it. Fails as the work does, with the signal's reason, or with REPOSITORY_UNREACHABLE.
 */
export async function watchFilesystem<T>(
  { path, patience, signal }: { path: string; patience: FilesystemPatience; signal: AbortSignal },
  work: (watched: Watched) => Promise<T>,
): Promise<T> {
  using linked = linkSignals(signal);
  const { answerMs, restMs } = patience;
  let isLeft = false;
  let timer: NodeJS.Timeout | undefined;
  const rest = () => clearTimeout(timer);
  const beat = () => {
    rest();
    if (!isLeft) timer = setTimeout(() => linked.abort(hangs(path, answerMs)), answerMs);
  };
  beat();
  const working = work({ signal: linked.signal, beat, rest });
  try {
    return await raceSignal(working, linked.signal);
  } catch (error) {
    if (!linked.signal.aborted) throw error;
    return await within(working, restMs, linked.signal);
  } finally {
    isLeft = true;
    rest();
  }
}

async function within<T>(working: Promise<T>, ms: number, { reason }: AbortSignal): Promise<T> {
  const over = Promise.withResolvers<never>();
  const timer = setTimeout(() => over.reject(reason), ms);
  try {
    return await Promise.race([working, over.promise]);
  } finally {
    clearTimeout(timer);
  }
}

function hangs(path: string, ms: number): Failure {
  return new Failure("REPOSITORY_UNREACHABLE", `repository ${path} hangs: nothing came back for ${ms / 1000} s`, {
    hint: "look at its mount, and at the server or disk behind it",
  });
}
