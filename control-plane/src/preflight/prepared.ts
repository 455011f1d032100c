import type { Operation } from "@coppice/proto/gen/coppice/control/v1/operation";

/** One operation of a group: a host does it once the one before it has succeeded. */
export interface PreparedPart extends Pick<Prepared, "spec" | "clusterId" | "repositoryId" | "exclusiveKey"> {
  readonly id: string;
  readonly hostId: string;
}

/** A secret of one operation alone, sealed. */
export interface OwnSecret {
  readonly id: string;
  readonly purpose: string;
  readonly sealed: Uint8Array;
}

/** A request whose references are resolved and that nothing in the catalog speaks against: an operation may start. */
export interface Prepared {
  /** Id that the operation will have (op_…): names of what it makes follow from it. */
  readonly operationId: string;
  readonly spec: Exclude<Operation["spec"], { case: undefined }>;
  /** Host whose agent does the work; undefined for a group, whose parts have theirs. */
  readonly hostId: string | undefined;
  readonly clusterId: string | undefined;
  readonly repositoryId: string | undefined;
  /** What it is about, for the audit. */
  readonly subject: { readonly id: string; readonly name: string };
  /** Of two operations with the same key, the second is refused while the first has not ended. */
  readonly exclusiveKey?: string;
  /** What a group is made of, in the order in which it is done. */
  readonly parts?: readonly PreparedPart[];
  /** A secret that the spec refers to, and that is forgotten when the operation has ended. */
  readonly secret?: OwnSecret;
  /** Backups that must stay while the operation runs. */
  readonly backups: readonly string[];
}
