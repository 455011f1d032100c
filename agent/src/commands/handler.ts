import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Command, Result } from "@coppice/proto/gen/coppice/agent/v1/command";
import type { Fence } from "@coppice/proto/gen/coppice/common/v1/fence";
import type { WorkDoneSchema } from "@coppice/proto/gen/coppice/common/v1/progress";
import type { Failure } from "@coppice/proto/kit/failure";
import type { ByteBudget } from "../budget.ts";
import type { ClientFiles } from "../postgres/endpoint.ts";

/** The kinds of commands, as generated code names the cases of Command.spec; Result.result has the same ones. */
export type CommandCase = NonNullable<Command["spec"]["case"]>;

/** How far the work has come. */
export type Work = MessageInitShape<typeof WorkDoneSchema>;

/** What a handler gets besides the command's spec. */
export interface CommandContext {
  /** Aborted by a cancel, the deadline, a newer attempt or the agent's end; its reason is a Failure. */
  readonly signal: AbortSignal;
  readonly commandId: string;
  readonly operationId: string;
  readonly fence: Fence;
  /** The value of a secret that the spec refers to; undefined for the empty reference. Never to be logged. */
  readonly secret: (id: string) => string | undefined;
  /** Says how far the work has come; cheap, the latest wins. */
  readonly progress: (work: Work) => void;
  /** Adds a line to the operation's log, for people; holds no secret. */
  readonly log: (line: string) => void;
  /** Says what could not be cleared away, for people to read; it comes with the result, however the command ends. */
  readonly leaving: (leaving: string) => void;
  /** Records a step of the operation durably, for whoever settles it; a later one of the same name takes its place. */
  readonly note: (name: string, value: string) => Promise<void>;
  /** What was noted for the operation under the name, also by an earlier command or process. */
  readonly noted: (name: string) => string | undefined;
  /** Folder for large files that are of no use after the command. */
  readonly workFolder: string;
  /** Folder in which the manifests that incremental backups build on are kept, from one command to the next. */
  readonly chainFolder: string;
  /** Folder of what is remembered of the WAL that this host archives. */
  readonly walFolder: string;
  readonly agentVersion: string;
  /** Where this host's files for PostgreSQL's clients are. */
  readonly clientFiles: ClientFiles;
  /** Where the buffers of everything that this agent stores come from. */
  readonly budget: ByteBudget;
}

/** How a command ended: a result, a failure, or both when part of the work was done. */
export interface Outcome<R> {
  readonly result?: R | undefined;
  readonly failure?: Failure | undefined;
}

/** What a command of each kind asks for. */
export type Specs = { [C in CommandCase]: Extract<Command["spec"], { case: C }>["value"] };

/** What comes of a command of each kind. */
export type Results = { [C in CommandCase]: Extract<Result["result"], { case: C }>["value"] };

/** Carries out one kind of command; a thrown error is a failure without a result. */
export type Handler<C extends CommandCase> = (spec: Specs[C], context: CommandContext) => Promise<Outcome<Results[C]>>;

/** A handler for each kind. */
export type Handlers = { readonly [C in CommandCase]: Handler<C> };
