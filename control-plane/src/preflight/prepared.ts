import type { Operation } from "@coppice/proto/gen/coppice/control/v1/operation";

/** A request whose references are resolved and that nothing in the catalog speaks against: an operation may start. */
export interface Prepared {
  /** Id that the operation will have (op_…): names of what it makes follow from it. */
  readonly operationId: string;
  readonly spec: Exclude<Operation["spec"], { case: undefined }>;
  /** Host whose agent does the work. */
  readonly hostId: string;
  readonly clusterId: string | undefined;
  readonly repositoryId: string | undefined;
  /** What it is about, for the audit. */
  readonly subject: { readonly id: string; readonly name: string };
  /** Of two operations with the same key, the second is refused while the first has not ended. */
  readonly exclusiveKey?: string;
  /** Backups that must stay while the operation runs. */
  readonly backups: readonly string[];
}
