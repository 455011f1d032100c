import { fromJsonString } from "@bufbuild/protobuf";
import type { RepositoryTarget } from "@coppice/proto/gen/coppice/agent/v1/repository_target";
import {
  type StorageCredential,
  StorageCredentialSchema,
} from "@coppice/proto/gen/coppice/common/v1/storage_credential";
import { Failure } from "@coppice/proto/kit/failure";
import type { ByteBudget } from "../budget.ts";
import type { StorageAccess } from "../storage/access.ts";

/** What a repository is opened with, besides where it is. */
export interface AccessContext {
  /** The work that it is opened for; marks what is left if it is killed. */
  readonly operationId: string;
  /** Where the buffers of puts come from. */
  readonly budget: ByteBudget;
  readonly signal: AbortSignal;
  /** The value of a secret that the target refers to; undefined for the empty reference. */
  readonly secret: (id: string) => string | undefined;
}

/** How a repository is opened: with the credentials that came sealed with it, as far as there are any. */
export function storageAccess({ secrets }: RepositoryTarget, context: AccessContext): StorageAccess {
  const { operationId, budget, signal, secret } = context;
  const open = (id: string | undefined) => (id ? parseCredential(id, secret(id)) : undefined);
  const credentials = { write: open(secrets?.write), read: open(secrets?.read), delete: open(secrets?.delete) };
  return { operationId, budget, signal, credentials };
}

function parseCredential(id: string, value: string | undefined): StorageCredential | undefined {
  if (value === undefined) return undefined;
  try {
    return fromJsonString(StorageCredentialSchema, value, { ignoreUnknownFields: true });
  } catch {
    // The parser's own words could hold the value.
    throw new Failure("SECRET_UNREADABLE", `the secret ${id} is no credential of a storage`);
  }
}
