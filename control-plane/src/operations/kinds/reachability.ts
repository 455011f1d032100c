import type { FailureDetail } from "@coppice/proto/gen/coppice/common/v1/failure";
import type { Reason } from "@coppice/proto/kit/reasons";
import type { CatalogChange, ServerPlace } from "./catalog-change.ts";

const clusterReasons: readonly Reason[] = [
  "CLUSTER_UNREACHABLE",
  "CONNECTION_SERVICE_INVALID",
  "LOGIN_REFUSED",
  "PASSWORD_MISSING",
  "PASSWORD_REFUSED",
  "TLS_REFUSED",
];

const repositoryReasons: readonly Reason[] = [
  "REPOSITORY_FULL",
  "REPOSITORY_IO_ERROR",
  "REPOSITORY_NOT_READABLE",
  "REPOSITORY_NOT_WRITABLE",
  "REPOSITORY_UNREACHABLE",
];

/**
 * What the end of some work says of the server and the repository it needed: after a success both were reached; a
 * failure speaks only of what it names.
 */
export function reachability(
  { clusterId, instanceId, repositoryId }: Partial<ServerPlace> & { readonly repositoryId?: string },
  failure: FailureDetail | undefined,
): CatalogChange[] {
  const says = (reasons: readonly string[]): { problem: string | undefined } | undefined => {
    if (failure === undefined) return { problem: undefined };
    return reasons.includes(failure.reason) ? { problem: failure.message } : undefined;
  };
  const cluster = says(clusterReasons);
  const repository = says(repositoryReasons);
  const server = instanceId === undefined ? {} : { instanceId };
  return [
    ...(clusterId !== undefined && cluster ? [{ is: "clusterTried", clusterId, ...server, ...cluster } as const] : []),
    ...(repositoryId !== undefined && repository
      ? [{ is: "repositoryTried", repositoryId, ...repository } as const]
      : []),
  ];
}
