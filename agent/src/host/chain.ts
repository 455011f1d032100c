import type { Readable } from "node:stream";
import { Failure } from "@coppice/proto/kit/failure";
import { feed } from "./feed.ts";
import { firstFailure } from "./first-failure.ts";
import { launch, type Launched, type LaunchOptions, programFailure } from "./launch.ts";
import { openOutput } from "./output.ts";
import type { Program } from "./program.ts";
import { resolveProgram, type ResolvedProgram } from "./resolve.ts";
import { writtenBytes } from "./written-bytes.ts";

/** What a chain is opened with. */
export interface ChainOptions {
  readonly signal: AbortSignal;
  /**
   * What the first program reads; none means /dev/null. The chain takes it over: when it fails, the programs are
   * killed before their input is closed, so that none of them takes the broken stream for a whole one.
   */
  readonly input?: Readable;
  /** The input's chunks are held by nobody else: their memory may be freed once they are written. */
  readonly ownsChunks?: boolean;
  /** Descriptor of an open file that the first program reads by itself, in place of `input`. */
  readonly inputFile?: number | undefined;
  /** Descriptor of an open file that the last program writes into by itself; the chain's output is empty then. */
  readonly outputFile?: number;
  /**
   * The last program may end well without reading all (pg_restore --list): programs before it that then lose their
   * reader, and an input that is not taken whole, are no failure.
   */
  readonly mayStopEarly?: boolean;
  /** Called with each line of a program's stderr, by its base name; at most 10,001 lines a program. */
  readonly onStderr?: (program: string, line: string) => void;
}

/** Programs joined by pipes, running. Disposing kills what still runs and waits for its end. */
export interface Chain extends AsyncDisposable {
  /**
   * What the last program writes. It ends only after every program has ended well, whoever has inherited it and holds it
   * open, and is destroyed with the first cause otherwise, so a clean end is a whole stream. Destroying it earlier kills the programs. Who wants none of it
   * calls `resume()`: programs wait for their reader.
   */
  readonly output: Readable;
  /** Resolves when every program has ended with 0 and the input was taken whole; rejects with the first cause. */
  readonly done: Promise<void>;
  /** Bytes that the first program has written so far; undefined when it has ended or cannot be asked. */
  writtenByFirst(): number | undefined;
}

/** How long programs get to end by themselves after one of them failed, and again after TERM. */
const graceMs = 1000;

/**
 * Starts programs joined by pipes, each in a process group of its own; bytes between them never pass through this
 * process. Fails with PROGRAM_MISSING or OS_USER_NOT_USABLE before anything is started, and later (`done`, `output`)
 * with PROGRAM_FAILED, the signal's reason, or the input's own error.
 */
export async function openChain(programs: readonly Program[], options: ChainOptions): Promise<Chain> {
  // Until it is read an input that fails would be an unhandled error; what it was is asked for again below.
  const ignored = () => {};
  options.input?.on("error", ignored);
  try {
    const resolved = await Promise.all(programs.map(resolveProgram));
    options.signal.throwIfAborted();
    if (options.input?.destroyed) throw options.input.errored ?? new Error("the input was closed");
    return start(resolved, options);
  } catch (error) {
    options.input?.destroy();
    throw error;
  }
}

function start(programs: readonly ResolvedProgram[], options: ChainOptions): Chain {
  const {
    signal,
    input,
    inputFile,
    ownsChunks = false,
    outputFile,
    mayStopEarly = false,
    onStderr = () => {},
  } = options;
  const exits: number[] = [];
  const timers = new Set<NodeJS.Timeout>();
  let stopped: { cause: unknown } | undefined;
  let hasEnded = false;
  let isOver = false;

  // From the last to the first: none may see its producer die, and so its input end, before it is told itself.
  const killAll = (name: "SIGTERM" | "SIGKILL") => {
    for (const program of running.toReversed()) program.kill(name);
  };
  const later = (run: () => void) => timers.add(setTimeout(run, graceMs));
  const end = () => {
    killAll("SIGTERM");
    later(() => killAll("SIGKILL"));
  };
  const stop = (cause: unknown) => {
    if (stopped || isOver) return;
    stopped = { cause };
    end();
    output.destroy(asError(cause));
    // Nobody is left to take a broken stream for a whole one, and its end may be waited for.
    if (hasEnded) feeding?.close();
  };

  const running = launchAll(
    programs,
    { stdin: input ? "pipe" : (inputFile ?? "ignore"), outputFile, onStderr },
    (index, isFailure) => {
      exits.push(index);
      // The others notice by their pipes; only who does not is made to end.
      if (isFailure && timers.size === 0) later(end);
    },
  );
  const [first] = running;
  const { output, finish } = openOutput(running.at(-1)?.stdout ?? undefined, () =>
    stop(new Failure("CANCELLED", "the output of the programs is no longer read")),
  );
  const onAbort = () => {
    stop(signal.reason);
    // Its end may still be waited for when all programs have ended.
    output.destroy(asError(signal.reason));
  };
  signal.addEventListener("abort", onAbort, { once: true });
  output.once("close", () => signal.removeEventListener("abort", onAbort));
  const feeding = input && first?.stdin ? feed({ input, ownsChunks, stdin: first.stdin }, stop) : undefined;

  const settle = async () => {
    const ends = await Promise.all(running.map(({ ended }) => ended));
    hasEnded = true;
    const failed = firstFailure(ends, exits, mayStopEarly);
    const isShort = feeding && !mayStopEarly && !stopped && !failed && !(await feeding.isTakenWhole());
    isOver = true;
    for (const timer of timers) clearTimeout(timer);
    feeding?.close();
    if (stopped) throw stopped.cause;
    if (failed) throw programFailure(failed);
    if (isShort) throw new Failure("PROGRAM_FAILED", `${first?.name} ended before it had read all of its input`);
  };
  const done = settle();
  done.then(finish, (cause: unknown) => output.destroy(asError(cause)));

  return {
    output,
    done,
    writtenByFirst: () => (first?.pid === undefined ? undefined : writtenBytes(first.pid)),
    async [Symbol.asyncDispose]() {
      stop(new Failure("CANCELLED", "the programs were stopped"));
      await Promise.allSettled([done]);
      output.destroy();
    },
  };
}

function launchAll(
  programs: readonly ResolvedProgram[],
  ends: Pick<LaunchOptions, "onStderr"> & {
    readonly stdin: LaunchOptions["stdin"];
    readonly outputFile: number | undefined;
  },
  onExit: (index: number, isFailure: boolean) => void,
): Launched[] {
  const running: Launched[] = [];
  const { onStderr, outputFile } = ends;
  let { stdin } = ends;
  try {
    for (const [index, program] of programs.entries()) {
      const stdout = index === programs.length - 1 ? outputFile : undefined;
      const launched = launch(program, { stdin, stdout, onStderr, onExit: (isFailure) => onExit(index, isFailure) });
      running.push(launched);
      // Both ends have their copy now. With ours open a producer whose consumer died would block for ever; and all
      // of this happens in one turn of the event loop, so that we have not read a byte of it.
      if (typeof stdin === "object") stdin.destroy();
      stdin = launched.stdout ?? "ignore";
    }
  } catch (error) {
    for (const program of running) program.kill("SIGKILL");
    throw error;
  }
  return running;
}

function asError(cause: unknown): Error {
  return cause instanceof Error ? cause : new Error("the programs were stopped", { cause });
}
