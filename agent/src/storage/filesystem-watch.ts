import { resolve } from "node:path";
import { Failure } from "@coppice/proto/kit/failure";
import { linkSignals, raceSignal } from "@coppice/proto/kit/race";

/** How long a file system may take over things, and how much of it is asked at once. */
export interface FilesystemPatience {
  /** For one thing to come back, in milliseconds: a busy disk can sync for minutes. */
  readonly answerMs: number;
  /** For what was aborted to clear away behind itself. */
  readonly restMs: number;
  /** Calls on one root that are under way at once, each of which may hold a thread of the process. */
  readonly callsAtOnce: number;
}

/** For a disk of this host, or one that a server lends it; its calls leave most of an agent's 32 threads to others. */
export const usualFilesystemPatience: FilesystemPatience = { answerMs: 300_000, restMs: 5_000, callsAtOnce: 8 };

/** How work asks things of a file system, and learns that nobody waits for it any more. */
export interface Watched {
  /** Aborted with the caller's signal, and when the file system hangs. */
  readonly signal: AbortSignal;
  /**
   * Does one thing, in its turn. Fails at once with the signal's reason, or while something else that was asked of this
   * root hangs. What is asked must not ask again, which could wait for itself.
   */
  readonly ask: <T>(call: () => Promise<T>) => Promise<T>;
  /** Does in its turn what must be done whatever happened, also when nobody waits for it any more. */
  readonly clear: <T>(call: () => Promise<T>) => Promise<T>;
}

/** Does work as watchFilesystem. */
export type Watch = <T>(work: (watched: Watched) => Promise<T>) => Promise<T>;

/**
 * Does work on a file system that may hang, as one does whose server is away. A call to it cannot be taken back: when the
 * signal is aborted, or a call has not come back for too long, the work gets a moment to clear away and is then left to
 * itself, whatever comes of it. While such a call hangs nothing else is asked of that root by this process: it would
 * take one thread after the other from all that works. Fails as the work does, with the signal's reason, or with
 * REPOSITORY_UNREACHABLE.
 */
export async function watchFilesystem<T>(
  { path, patience, signal }: { path: string; patience: FilesystemPatience; signal: AbortSignal },
  work: (watched: Watched) => Promise<T>,
): Promise<T> {
  using linked = linkSignals(signal);
  const { answerMs, restMs, callsAtOnce } = patience;
  const timed = async <R>(turn: Turn, call: () => Promise<R>): Promise<R> => {
    const timer = setTimeout(() => {
      const failure = hangs(path, answerMs);
      turn.hangs(failure);
      linked.abort(failure);
    }, answerMs);
    try {
      return await call();
    } finally {
      clearTimeout(timer);
      turn.end();
    }
  };
  const turnOf = async (asker: AbortSignal) => {
    try {
      return await takeTurn(path, callsAtOnce, asker);
    } catch (error) {
      linked.abort(error);
      throw error;
    }
  };
  const working = work({
    signal: linked.signal,
    ask: async (call) => await timed(await turnOf(linked.signal), call),
    clear: async (call) => await timed(await takeTurn(path, callsAtOnce), call),
  });
  try {
    return await raceSignal(working, linked.signal);
  } catch (error) {
    if (!linked.signal.aborted) throw error;
    return await within(working, restMs, linked.signal);
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

/** What is asked of one root by this process, by whichever storage that is open on it. */
interface Root {
  underWay: number;
  /** One for each call under way that hangs. */
  readonly hanging: Set<Failure>;
  readonly waiting: Set<Waiting>;
}

interface Waiting {
  readonly begin: () => void;
  readonly refuse: (cause: unknown) => void;
}

/** The leave to make one call. */
interface Turn {
  /** The call hangs: who waits for his turn is refused, and whoever asks for one until it has come back. */
  hangs(failure: Failure): void;
  end(): void;
}

/** By path, without a look at what it is: that could hang. */
const roots = new Map<string, Root>();

/** First come, first served. Who has a signal is refused, as it is aborted or as the root hangs; others wait. */
async function takeTurn(path: string, atOnce: number, signal?: AbortSignal): Promise<Turn> {
  signal?.throwIfAborted();
  const key = resolve(path);
  const root = roots.get(key) ?? { underWay: 0, hanging: new Set(), waiting: new Set() };
  const [hanging] = root.hanging;
  if (signal && hanging) throw hanging;
  roots.set(key, root);
  if (root.underWay < atOnce) root.underWay++;
  else await waitForTurn(root, signal);
  let own: Failure | undefined;
  return {
    hangs(failure) {
      own = failure;
      root.hanging.add(failure);
      for (const waiting of root.waiting) waiting.refuse(failure);
    },
    end() {
      if (own) root.hanging.delete(own);
      const [next] = root.waiting;
      // It takes over the place of this one.
      if (next) next.begin();
      else if (--root.underWay === 0) roots.delete(key);
    },
  };
}

async function waitForTurn({ waiting }: Root, signal?: AbortSignal): Promise<void> {
  const turn = Promise.withResolvers<void>();
  const leave = () => {
    waiting.delete(one);
    signal?.removeEventListener("abort", onAbort);
  };
  const one: Waiting = {
    begin() {
      leave();
      turn.resolve();
    },
    refuse(cause) {
      if (!signal) return;
      leave();
      turn.reject(cause);
    },
  };
  const onAbort = () => one.refuse(signal?.reason);
  signal?.addEventListener("abort", onAbort, { once: true });
  waiting.add(one);
  await turn.promise;
}
