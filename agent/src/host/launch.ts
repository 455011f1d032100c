import { type ChildProcess, spawn } from "node:child_process";
import { constants } from "node:os";
import type { Readable, Writable } from "node:stream";
import { Failure } from "@coppice/proto/kit/failure";
import type { ResolvedProgram } from "./resolve.ts";
import { openSecretFile } from "./secret-file.ts";
import { stderrLines } from "./stderr-lines.ts";

/** How a program ended. */
export interface ProgramEnd {
  readonly name: string;
  readonly cwd: string;
  /** Exit code; undefined when a signal ended it or it never started. */
  readonly exitCode: number | undefined;
  readonly signal: string | undefined;
  /** Its last lines of stderr. */
  readonly stderr: readonly string[];
  /** Why it never started. */
  readonly error: Error | undefined;
}

/** A program that was started, in a process group of its own. */
export interface Launched {
  readonly name: string;
  /** Undefined when it never started. */
  readonly pid: number | undefined;
  readonly stdin: Writable | null;
  readonly stdout: Readable | null;
  /** Resolves, never rejects, when it has ended and its stderr is read. */
  readonly ended: Promise<ProgramEnd>;
  /** Signals its whole group; nothing once it has ended. */
  kill(signal: "SIGTERM" | "SIGKILL"): void;
}

/** What a program is launched with. */
export interface LaunchOptions {
  /** A number is the descriptor of an open file. */
  readonly stdin: Readable | number | "pipe" | "ignore";
  /** An open file that its stdout goes into; a pipe of this process when left out. */
  readonly stdout?: number | undefined;
  readonly onStderr: (program: string, line: string) => void;
  /** Called at once when it has ended, before its stderr is read. */
  readonly onExit: (isFailure: boolean) => void;
}

const stderrGraceMs = 1000;

/** Starts a program now, in this turn of the event loop. */
export function launch(program: ResolvedProgram, options: LaunchOptions): Launched {
  const { stdin, stdout = "pipe", onStderr, onExit } = options;
  // The child has its own copy when this returns, and ours is closed.
  using secret = program.secretInput === undefined ? undefined : openSecretFile(program.secretInput, program.user);
  const child = spawn(program.file, [...program.args], {
    cwd: program.cwd,
    env: { ...program.env },
    detached: true,
    stdio: [stdin, stdout, "pipe", ...(secret ? [secret.fd] : [])],
  });
  const lines = stderrLines((line) => onStderr(program.name, line), program.hidesLine);
  const exited = exitOf(child);
  let hasEnded = false;

  const stderrRead = new Promise<void>((resolve) => {
    const { stderr } = child;
    if (!stderr) {
      resolve();
      return;
    }
    stderr.on("data", (chunk: Buffer) => lines.take(chunk));
    stderr.on("error", () => stderr.destroy());
    stderr.once("close", () => {
      lines.end();
      resolve();
    });
    // Somebody in another session may have inherited it and hold it for ever.
    void exited.then(() => setTimeout(() => stderr.destroy(), stderrGraceMs).unref());
  });

  const ended = exited.then(async ({ code, signal, error }): Promise<ProgramEnd> => {
    hasEnded = true;
    onExit(code !== 0);
    // Whatever it forked and left behind goes too; the group cannot be anyone else's this early.
    signalGroup(child.pid, "SIGKILL");
    await stderrRead;
    return { name: program.name, cwd: program.cwd, ...meaning(program, code, signal), stderr: lines.tail(), error };
  });

  return {
    name: program.name,
    pid: child.pid,
    stdin: child.stdin,
    stdout: child.stdout,
    ended,
    kill: (signal) => {
      if (!hasEnded) signalGroup(child.pid, signal);
    },
  };
}

interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly error: Error | undefined;
}

function exitOf(child: ChildProcess): Promise<Exit> {
  return new Promise((resolve) => {
    child.once("exit", (code, signal) => resolve({ code, signal, error: undefined }));
    child.on("error", (error) => {
      // With a pid it is a signal that could not be sent, and the end is still to come.
      if (child.pid === undefined) resolve({ code: null, signal: null, error });
    });
  });
}

function meaning({ forks }: ResolvedProgram, code: number | null, signal: NodeJS.Signals | null) {
  const number = forks && code !== null && code > 128 ? code - 128 : undefined;
  const guarded = Object.entries(constants.signals).find(([, value]) => value === number)?.[0];
  return guarded
    ? { exitCode: undefined, signal: guarded }
    : { exitCode: code ?? undefined, signal: signal ?? undefined };
}

function signalGroup(pid: number | undefined, signal: "SIGTERM" | "SIGKILL"): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}

/** Whether a program ended as it should. */
export function isSuccess({ exitCode, error }: ProgramEnd): boolean {
  return exitCode === 0 && error === undefined;
}

/** What decoders (gzip, zstd, age) and readers of archives say of an input that ends before its end. */
const endsEarly = /unexpected end of file|premature end|unexpected EOF|input file: end of file/;

/** The line by which age ends whatever goes wrong. */
const saysNothing = /^age: report unexpected or unhelpful errors at /;

/** The failure that a program's end amounts to. */
export function programFailure({ name, cwd, exitCode, signal, stderr, error }: ProgramEnd): Failure {
  if (error) {
    const { code } = error as NodeJS.ErrnoException;
    return new Failure("PROGRAM_FAILED", `${name} could not be started in ${cwd}: ${code ?? error.name}`, {
      metadata: { program: name },
      cause: error,
    });
  }
  const how = signal === undefined ? `exit code ${exitCode}` : `signal ${signal}`;
  const last = stderr.findLast((line) => !saysNothing.test(line));
  return new Failure("PROGRAM_FAILED", `${name} ended with ${how}${last === undefined ? "" : `: ${last}`}`, {
    metadata: {
      program: name,
      ...(signal === undefined ? { exitCode: String(exitCode) } : { signal }),
      stderr: stderr.join("\n").slice(-8000),
    },
    hint:
      last !== undefined && endsEarly.test(last) ? "the file is cut off: take it again, or fetch it again" : undefined,
  });
}
