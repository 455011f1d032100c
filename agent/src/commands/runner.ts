// One thing: the life of commands between journal and report; a change to one of its parts is a change to all.
import type { MessageInitShape } from "@bufbuild/protobuf";
import { type Timestamp, timestampDate } from "@bufbuild/protobuf/wkt";
import type { Command, Result } from "@coppice/proto/gen/coppice/agent/v1/command";
import type { Cancel, CommandInFlightSchema } from "@coppice/proto/gen/coppice/agent/v1/session";
import { Failure, isFailure, toFailure } from "@coppice/proto/kit/failure";
import type { Logger } from "pino";
import type { ByteBudget } from "../budget.ts";
import { compareFences } from "../journal/fence.ts";
import type { Journal } from "../journal/journal.ts";
import { type CommandKey, commandKey } from "../journal/record.ts";
import type { ClientFiles } from "../postgres/endpoint.ts";
import { callHandler, openSecret } from "./call-handler.ts";
import type { CommandContext, Handlers } from "./handler.ts";
import { type AgentMessage, openReporter, type Report, type Reporter } from "./reporter.ts";
import { tellable, toResult } from "./result.ts";

/** Carries out commands, each at most once, and tells how they end. */
export interface CommandRunner extends AsyncDisposable {
  /** Takes a command on; whatever becomes of it is reported. */
  begin(command: Command): void;
  /** Stops the operation's commands of that fence and older ones. */
  cancel(cancel: Cancel): void;
  /** The control plane has stored the result of the command. */
  acknowledge(commandId: string): void;
  /** What the agent still answers for, for Hello. */
  inFlight(): MessageInitShape<typeof CommandInFlightSchema>[];
  /** What a new session is told first: where running commands are, and results that were not acknowledged. */
  replay(): AgentMessage[];
  /** Stops everything and resolves when all has come to rest; what comes in afterwards is refused. */
  stop(): Promise<void>;
}

/** What a runner works with. */
export interface RunnerParts {
  readonly handlers: Handlers;
  readonly journal: Journal;
  readonly report: Report;
  /** Folder for large files of running commands. */
  readonly workFolder: string;
  /** Folder of what is kept for incremental backups to come. */
  readonly chainFolder: string;
  /** Folder of what is remembered of the WAL that this host archives. */
  readonly walFolder: string;
  readonly agentVersion: string;
  readonly clientFiles: ClientFiles;
  readonly budget: ByteBudget;
  readonly log: Logger;
}

interface Running {
  readonly key: CommandKey;
  readonly controller: AbortController;
  readonly reporter: Reporter;
  readonly done: Promise<void>;
}

const stopBoundMs = 20_000;
const slowStopMs = 2_000;
const maxTimerMs = 2 ** 31 - 1;

/** Opens a runner; disposing it stops everything. */
export function openRunner(parts: RunnerParts): CommandRunner {
  return new Runner(parts);
}

class Runner implements CommandRunner {
  readonly #parts: RunnerParts;
  readonly #running = new Map<string, Running>();
  /** Of commands that have ended and were not acknowledged: their last lines may have been lost with a session. */
  readonly #ended = new Map<string, Reporter>();
  #isStopping = false;

  constructor(parts: RunnerParts) {
    this.#parts = parts;
  }

  begin(command: Command): void {
    const key = commandKey(command);
    if (this.#isStopping) return this.#refuse(key, stopped());
    if (this.#running.has(key.commandId)) return this.#parts.report(accepted(key));
    const controller = new AbortController();
    const reporter = openReporter(key, this.#parts.report);
    const { promise: done, resolve: rest } = Promise.withResolvers<void>();
    this.#running.set(key.commandId, { key, controller, reporter, done });
    void this.#run(command, key, controller, reporter).then(rest);
  }

  cancel({ operationId, fence }: Cancel): void {
    for (const { key, controller } of this.#running.values()) {
      if (key.operationId !== operationId || (fence && compareFences(key.fence, fence) > 0)) continue;
      this.#abort(key, controller, new Failure("CANCELLED", "it was cancelled"));
    }
  }

  acknowledge(commandId: string): void {
    this.#ended.get(commandId)?.[Symbol.dispose]();
    this.#ended.delete(commandId);
    this.#parts.journal.acknowledge(commandId).catch((error: unknown) => {
      // Nothing is lost: the result is told once more after a restart, and acknowledged once more.
      this.#parts.log.error({ err: error, commandId }, "the acknowledgement was not recorded");
    });
  }

  inFlight(): MessageInitShape<typeof CommandInFlightSchema>[] {
    const ended = this.#parts.journal.unacknowledged().map(commandKey);
    const hasEnded = new Set(ended.map(({ commandId }) => commandId));
    const running = [...this.#running.values()].map(({ key }) => key);
    return [
      ...ended.map((key) => inFlight(key, true)),
      ...running.filter(({ commandId }) => !hasEnded.has(commandId)).map((key) => inFlight(key, false)),
    ];
  }

  replay(): AgentMessage[] {
    return [
      ...[...this.#running.values()].flatMap(({ key, reporter }) => [accepted(key), ...reporter.replay()]),
      ...[...this.#ended.values()].flatMap((reporter) => reporter.replay()),
      // An earlier version may have left one that is too large.
      ...this.#parts.journal.unacknowledged().map((result) => resultMessage(tellable(result))),
    ];
  }

  async stop(): Promise<void> {
    this.#isStopping = true;
    const running = [...this.#running.values()];
    for (const { key, controller } of running) this.#abort(key, controller, stopped());
    const bound = Promise.withResolvers<void>();
    const timer = setTimeout(() => {
      this.#parts.log.error({ commands: [...this.#running.keys()] }, "commands did not come to rest in time");
      bound.resolve();
    }, stopBoundMs);
    await Promise.race([bound.promise, Promise.all(running.map(({ done }) => done))]);
    clearTimeout(timer);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    for (const reporter of this.#ended.values()) reporter[Symbol.dispose]();
    this.#ended.clear();
  }

  /** Never rejects: whatever goes wrong becomes the command's result. */
  async #run(command: Command, key: CommandKey, controller: AbortController, reporter: Reporter): Promise<void> {
    const { journal, log, report } = this.#parts;
    const { commandId, operationId } = key;
    const names = { commandId, operationId, command: command.spec.case };
    try {
      const earlier = await this.#admit(command, key);
      if (earlier) return report(resultMessage(tellable(earlier)));
      await this.#supersede(command, key);
      report(accepted(key));
      log.info(names, "command begins");
      using _deadline = abortAtDeadline(command.deadline, controller);
      const result = await this.#carryOut(command, key, controller.signal, reporter);
      // So that the log alone tells how the attempt ended, whatever the work itself had to say.
      if (result.failure) reporter.log(`failed: ${result.failure.message}`);
      if (result.cancelled) reporter.log("cancelled");
      for (const leaving of result.leavings) reporter.log(`left behind: ${leaving}`);
      reporter.flush();
      this.#ended.set(commandId, reporter);
      log.info({ ...names, reason: result.failure?.reason, cancelled: result.cancelled }, "command ended");
      try {
        await journal.end(result);
      } catch (error) {
        // The journal keeps it in memory; told and acknowledged, it is needed no more.
        log.error({ err: error, ...names }, "the result was not recorded");
      }
      report(resultMessage(result));
    } catch (error) {
      const failure = toFailure(error);
      log.error({ err: error, ...names }, "command refused");
      this.#refuse(key, failure);
    } finally {
      this.#running.delete(commandId);
    }
  }

  /** Gives the result that the command had before, if it had one; throws when it must not begin. */
  async #admit(command: Command, { commandId, operationId }: CommandKey): Promise<Result | undefined> {
    const { case: name } = command.spec;
    if (name === undefined || !Object.hasOwn(this.#parts.handlers, name)) {
      throw new Failure("CAPABILITY_MISSING", "this agent does not know that kind of command");
    }
    const admission = await this.#parts.journal.admit(command);
    switch (admission.is) {
      case "new":
        return undefined;
      case "ended":
        return admission.result;
      case "seen":
        throw new Failure("OUTCOME_UNKNOWN", `command ${commandId} came in before, and how it ended is not known here`);
      case "stale":
        throw new Failure("STALE_FENCE", `a newer attempt of operation ${operationId} is known here`);
    }
  }

  /** Stops what is older than the command, or what it is to settle, and waits for its rest: never two side by side. */
  async #supersede(command: Command, key: CommandKey): Promise<void> {
    // Only those that came before it: two that waited for each other would wait for ever.
    const running = [...this.#running.values()];
    const earlier = running.slice(
      0,
      running.findIndex((other) => other.key === key),
    );
    const others = earlier.filter(
      (other) =>
        other.key.operationId === key.operationId &&
        (command.spec.case === "settle" || compareFences(other.key.fence, key.fence) < 0),
    );
    for (const other of others) {
      this.#abort(other.key, other.controller, new Failure("CANCELLED", "a newer command has taken over"));
    }
    await Promise.all(others.map(({ done }) => done));
  }

  async #carryOut(command: Command, key: CommandKey, signal: AbortSignal, reporter: Reporter): Promise<Result> {
    const leavings: string[] = [];
    const { agentVersion, budget, clientFiles, journal, workFolder, chainFolder, walFolder } = this.#parts;
    const context: CommandContext = {
      ...key,
      signal,
      secret: (id) => openSecret(command, id),
      progress: (work) => reporter.progress(work),
      log: (line) => reporter.log(line),
      leaving: (leaving) => void leavings.push(leaving),
      note: (name, value) => journal.note(key.operationId, name, value),
      noted: (name) => journal.noted(key.operationId, name),
      workFolder,
      chainFolder,
      walFolder,
      agentVersion,
      clientFiles,
      budget,
    };
    try {
      signal.throwIfAborted();
      const outcome = await callHandler(this.#parts.handlers, command, context);
      // What has a result has come to its end before the cancel did, and its failure is its own.
      return tellable(toResult(key, { ...outcome, leavings }));
    } catch (error) {
      // What an aborted work throws is a consequence; the reason says why it was aborted.
      const isUnknown = isFailure(error, "OUTCOME_UNKNOWN");
      const failure = toFailure(signal.aborted && !isUnknown ? signal.reason : error);
      const { reference } = failure.metadata;
      this.#parts.log.warn({ err: error, commandId: key.commandId, reference }, "command failed");
      return toResult(key, { failure, leavings, isCancelled: isCancel(signal) && !isUnknown });
    }
  }

  #abort({ commandId }: CommandKey, controller: AbortController, reason: Failure): void {
    if (controller.signal.aborted) return;
    controller.abort(reason);
    const timer = setTimeout(() => {
      if (this.#running.has(commandId)) this.#parts.log.warn({ commandId }, "the aborted command still runs");
    }, slowStopMs);
    timer.unref();
  }

  /** Reports a command that never began; it is not journaled, so it may come again. */
  #refuse(key: CommandKey, failure: Failure): void {
    this.#parts.report(resultMessage(toResult(key, { failure })));
  }
}

function abortAtDeadline(deadline: Timestamp | undefined, controller: AbortController): Disposable {
  if (!deadline) return { [Symbol.dispose]: () => undefined };
  const date = timestampDate(deadline);
  const abort = () => controller.abort(new Failure("DEADLINE_EXCEEDED", `it was not done by ${date.toISOString()}`));
  const timer = setTimeout(abort, Math.min(Math.max(0, date.getTime() - Date.now()), maxTimerMs));
  return { [Symbol.dispose]: () => clearTimeout(timer) };
}

function isCancel(signal: AbortSignal): boolean {
  return signal.aborted && isFailure(signal.reason, "CANCELLED");
}

function stopped(): Failure {
  return new Failure("AGENT_STOPPED", "the agent was stopped");
}

function accepted({ commandId, operationId, fence }: CommandKey): AgentMessage {
  return { case: "accepted", value: { commandId, operationId, fence } };
}

function resultMessage(result: Result): AgentMessage {
  return { case: "result", value: result };
}

function inFlight(key: CommandKey, hasResult: boolean): MessageInitShape<typeof CommandInFlightSchema> {
  return { commandId: key.commandId, operationId: key.operationId, fence: key.fence, hasResult };
}
