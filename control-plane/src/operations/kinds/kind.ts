import type { Command, Result } from "@coppice/proto/gen/coppice/agent/v1/command";
import type { BackupAddress, RepositoryTarget } from "@coppice/proto/gen/coppice/agent/v1/repository_target";
import type { SettleCommand } from "@coppice/proto/gen/coppice/agent/v1/settle";
import type { Connection } from "@coppice/proto/gen/coppice/common/v1/connection";
import type { FailureDetail } from "@coppice/proto/gen/coppice/common/v1/failure";
import type { Operation } from "@coppice/proto/gen/coppice/control/v1/operation";
import { Failure, fail, failureToDetail } from "@coppice/proto/kit/failure";
import type { CatalogChange } from "./catalog-change.ts";

/** What was asked for: one case of Operation.spec. */
export type OperationSpec = Exclude<Operation["spec"], { case: undefined }>;
/** The kinds of operations, as generated code names them. */
export type SpecCase = OperationSpec["case"];
/** What came of it: one case of Operation.result. */
export type OperationResult = Exclude<Operation["result"], { case: undefined }>;
/** One case of Command.spec. */
export type CommandSpec = Exclude<Command["spec"], { case: undefined }>;
/** The kinds of commands, as generated code names them; also the capabilities that agents name. */
export type CommandCase = CommandSpec["case"];

type SpecOf<S extends SpecCase> = Extract<OperationSpec, { case: S }>["value"];
type CommandOf<C extends CommandCase> = Extract<CommandSpec, { case: C }>["value"];
type ResultOf<C extends CommandCase> = Extract<Result["result"], { case: C }>["value"];
type LookableCase = NonNullable<SettleCommand["lost"]["case"]>;

/** What a command does to a repository: it gets the credentials of these purposes, and no others. */
export type StoragePurpose = "write" | "read" | "delete";

/** What a spec names and what has to be looked up before its command can be made. */
export interface References {
  readonly clusterId?: string;
  /** Server of that cluster; the one that the agent of the host works on when left out. */
  readonly instanceId?: string;
  /** Whether that server has to be a standby when a backup of it begins, or has to be none; either when left out. */
  readonly standby?: boolean;
  /** Another cluster, which is only looked at. */
  readonly liveClusterId?: string;
  readonly repositoryId?: string;
  readonly backup?: { readonly backupId: string; readonly repositoryId: string };
  /** Backups that build on each other, in order. */
  readonly chain?: readonly { readonly backupId: string; readonly repositoryId: string }[];
  /** Repository with archived WAL, which is read at most. */
  readonly walRepositoryId?: string;
  /** Of the repository; none when left out. */
  readonly purposes?: readonly StoragePurpose[];
  /**
   * Whether what is encrypted has to be decrypted: the command gets the identity then; `whereAllowed`: only on a host that
   * may have it, and else goes without.
   */
  readonly decrypts?: boolean | "whereAllowed";
  /** A secret of this operation alone, which its command gets; it is forgotten when the operation has ended. */
  readonly ownSecret?: string;
  /** Whether it has to be known which backups the catalog has in the repository, and what is under way in it. */
  readonly contents?: boolean;
}

/** What was looked up. */
export interface Facts {
  readonly cluster?: ClusterFact;
  readonly live?: ClusterFact;
  readonly repository?: RepositoryTarget;
  readonly backup?: BackupFact;
  readonly chain?: readonly BackupFact[];
  readonly walRepository?: RepositoryTarget;
  /** Clusters that the catalog knows backups of in the repository; where a cluster and a repository are referred to. */
  readonly storedClusters?: readonly string[];
  readonly contents?: RepositoryContents;
  /** A secret of this operation alone. */
  readonly ownSecret?: string;
  /** Whether the host that does the work is the repository's home host; where a repository is referred to. */
  readonly isHome?: boolean;
}

/** What the catalog knows of a repository's contents. */
export interface RepositoryContents {
  /** `<cluster id>/<folder>` of each copy in it. */
  readonly knownFolders: readonly string[];
  /** The same of backups that operations write right now. */
  readonly activeFolders: readonly string[];
  /** Those of the known ones whose deletion has begun. */
  readonly deletingFolders: readonly string[];
  /** Servers that the catalog knows physical backups of, in any repository. */
  readonly knownServers: readonly WalServer[];
}

/** A server whose WAL may be archived. */
export interface WalServer {
  readonly clusterId: string;
  readonly systemIdentifier: string;
  readonly segmentBytes: bigint;
}

/** A cluster as its agent reaches it. */
export interface ClusterFact {
  readonly name: string;
  readonly connection: Connection;
  /** The newest system identifier that was seen; empty before the first check. */
  readonly systemIdentifier: string;
  /** Whether it has no other server. */
  readonly isAlone: boolean;
}

/** A copy of a backup. */
export interface BackupFact {
  readonly address: BackupAddress;
  /** Keys of its objects below its folder, manifest.json left out. */
  readonly keys: readonly string[];
}

/** How a command ended, seen from its kind: with a result, a failure, or both. */
export interface Outcome<R> {
  readonly result?: R | undefined;
  readonly failure?: FailureDetail | undefined;
}

/** What becomes of the operation and of the catalog. It succeeded exactly when there is a result and no failure. */
export interface Applied {
  readonly result?: OperationResult | undefined;
  readonly failure?: FailureDetail | undefined;
  readonly changes: readonly CatalogChange[];
}

interface KindDefinition<S extends SpecCase, C extends CommandCase> {
  readonly spec: S;
  readonly command: C;
  /** How often it is tried again by itself after its agent was lost and nothing came of the attempt. */
  readonly retriesAfterLoss: number;
  /** How an unknown outcome is settled: by a look, where the agent can look; what changes nothing is repeated. */
  readonly settle: C extends LookableCase ? "look" : "repeat";
  /** What an attempt that nobody looks at may have left or done, for people to read; what changes nothing has none. */
  readonly mayLeave: C extends LookableCase ? (spec: SpecOf<S>) => string : undefined;
  /** Whether it moves so many bytes that a host does only a few of them at once. */
  readonly isHeavy: boolean;
  readonly references: (spec: SpecOf<S>) => References;
  readonly plan: (spec: SpecOf<S>, facts: Facts) => CommandOf<C>;
  /** What is true as soon as the command is sent. */
  readonly begin?: (spec: SpecOf<S>) => readonly CatalogChange[];
  /** A failure or result that does not fit the spec never becomes a success: it comes out as a failure. */
  readonly apply: (spec: SpecOf<S>, outcome: Outcome<ResultOf<C>>) => Applied;
}

/** A kind of operation that an agent does by one command: all that is particular to it, pure. */
export interface CommandKind<S extends SpecCase = SpecCase> {
  readonly does: "command";
  readonly spec: S;
  readonly command: CommandCase;
  readonly retriesAfterLoss: number;
  readonly settle: "look" | "repeat";
  readonly isHeavy: boolean;
  mayLeave(spec: OperationSpec): string;
  references(spec: OperationSpec): References;
  plan(spec: OperationSpec, facts: Facts): CommandSpec;
  begin(spec: OperationSpec): readonly CatalogChange[];
  apply(spec: OperationSpec, outcome: Outcome<Result["result"]>): Applied;
}

/** One operation of a group that has ended. */
export interface EndedChild {
  readonly spec: OperationSpec;
  readonly succeeded: boolean;
  readonly result: OperationResult | undefined;
}

/** A kind of operation that no agent does: it is made of others, and ends with the last of them. */
export interface GroupKind<S extends SpecCase = SpecCase> {
  readonly does: "group";
  readonly spec: S;
  /** What one of its operations is about, for messages: `the globals`, `database "orders"`. */
  nameChild(spec: OperationSpec): string;
  /** What came of one of its operations, for its log; empty where there is nothing to add to its success. */
  tellResult(result: OperationResult): string;
  /** What came of it all, also where some of it failed or was never begun. */
  conclude(spec: OperationSpec, children: readonly EndedChild[]): OperationResult;
}

/** A kind of operation. */
export type Kind<S extends SpecCase = SpecCase> = CommandKind<S> | GroupKind<S>;

/** Makes a kind that takes any spec and any result, and refuses those of another kind. */
export function defineKind<S extends SpecCase, C extends CommandCase>(kind: KindDefinition<S, C>): CommandKind<S> {
  const narrow = (spec: OperationSpec) => narrowSpec(kind.spec, spec);
  return {
    does: "command",
    spec: kind.spec,
    command: kind.command,
    retriesAfterLoss: kind.retriesAfterLoss,
    settle: kind.settle,
    isHeavy: kind.isHeavy,
    mayLeave: (spec) => kind.mayLeave?.(narrow(spec)) ?? "nothing",
    references: (spec) => kind.references(narrow(spec)),
    plan: (spec, facts) => ({ case: kind.command, value: kind.plan(narrow(spec), facts) }) as CommandSpec,
    begin: (spec) => kind.begin?.(narrow(spec)) ?? [],
    apply(spec, { result, failure }) {
      if (result?.case !== undefined && result.case !== kind.command) {
        return invalidAnswer(`the agent answered ${kind.command} with ${result.case}`);
      }
      if (result?.case === undefined && failure === undefined) {
        return invalidAnswer("the agent answered with neither a result nor a failure");
      }
      const value = result?.case === undefined ? undefined : (result.value as ResultOf<C>);
      return kind.apply(narrow(spec), { result: value, failure });
    },
  };
}

/** Makes a kind of group. */
export function defineGroup<S extends SpecCase>(kind: {
  readonly spec: S;
  readonly nameChild: (spec: OperationSpec) => string;
  readonly tellResult: (result: OperationResult) => string;
  readonly conclude: (spec: SpecOf<S>, children: readonly EndedChild[]) => OperationResult;
}): GroupKind<S> {
  return {
    does: "group",
    spec: kind.spec,
    nameChild: kind.nameChild,
    tellResult: kind.tellResult,
    conclude: (spec, children) => kind.conclude(narrowSpec(kind.spec, spec), children),
  };
}

function narrowSpec<S extends SpecCase>(wanted: S, spec: OperationSpec): SpecOf<S> {
  if (spec.case !== wanted) throw new TypeError(`a ${spec.case} is not a ${wanted}`);
  return spec.value as SpecOf<S>;
}

/** The end of an operation whose agent said what cannot be believed. */
export function invalidAnswer(message: string): Applied {
  return { failure: failureToDetail(new Failure("AGENT_ANSWER_INVALID", message)), changes: [] };
}

/** A fact that the kind's references asked for. */
export function required<T>(fact: T | undefined): T {
  return fact ?? fail("INTERNAL", "a fact that the command needs was not looked up");
}
