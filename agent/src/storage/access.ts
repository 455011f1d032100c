import type { StorageCredential } from "@coppice/proto/gen/coppice/common/v1/storage_credential";
import type { ByteBudget } from "../budget.ts";

/** What a storage is opened with for each purpose; one that is missing falls back on `write`, then on the host's own. */
export interface StorageCredentials {
  /** Adds objects. */
  readonly write?: StorageCredential | undefined;
  /** Reads and lists them. */
  readonly read?: StorageCredential | undefined;
  /** Deletes them, and aborts what was never finished. */
  readonly delete?: StorageCredential | undefined;
}

/** How a storage is opened. */
export interface StorageAccess {
  /** The operation it is opened for; marks what is left if it is killed. */
  readonly operationId: string;
  readonly credentials?: StorageCredentials | undefined;
  /** Where the buffers of puts come from; one of its own when left out. */
  readonly budget?: ByteBudget | undefined;
  /**
   * Whether a probe on this very place has just proved that a conditional put has one winner; see `Capabilities`. No
   * operation says so: it does not hold for long (a bucket that gets versioning accepts what it refused before), and
   * without it each put looks first whether its key is free.
   */
  readonly conditionalPut?: boolean | undefined;
  readonly signal: AbortSignal;
}
