import type { SecureClientSessionOptions } from "node:http2";
import { setTimeout as wait } from "node:timers/promises";
import { type Client, createClient, type Interceptor } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { AuditService } from "@coppice/proto/gen/coppice/control/v1/audit";
import { BackupService } from "@coppice/proto/gen/coppice/control/v1/backup";
import { ClusterService } from "@coppice/proto/gen/coppice/control/v1/cluster";
import { FindingService } from "@coppice/proto/gen/coppice/control/v1/finding";
import { HostService } from "@coppice/proto/gen/coppice/control/v1/host";
import {
  type Operation,
  type OperationLogLine,
  OperationService,
} from "@coppice/proto/gen/coppice/control/v1/operation";
import { RepositoryService } from "@coppice/proto/gen/coppice/control/v1/repository";
import { RestoreService } from "@coppice/proto/gen/coppice/control/v1/restore";
import { TokenService } from "@coppice/proto/gen/coppice/control/v1/token";
import type { Failure } from "@coppice/proto/kit/failure";
import { backoffMs } from "@coppice/proto/kit/backoff";
import { minTlsVersion } from "@coppice/proto/kit/tls";
import type { Target } from "../profile/target.ts";
import { callFailure } from "./call-failure.ts";
import type { WatchOptions } from "./connection-loss.ts";
import { watchLog } from "./watch-log.ts";
import { watchOperation } from "./watch-operation.ts";

/**
 * The services of a control plane. Calls end with the signal that it was opened with. Commands know it by its type
 * alone: the libraries behind it are loaded with the first connection.
 */
export interface Api extends Disposable {
  readonly address: string;
  readonly audit: Client<typeof AuditService>;
  readonly backups: Client<typeof BackupService>;
  readonly clusters: Client<typeof ClusterService>;
  readonly findings: Client<typeof FindingService>;
  readonly hosts: Client<typeof HostService>;
  readonly operations: Client<typeof OperationService>;
  readonly repositories: Client<typeof RepositoryService>;
  readonly restores: Client<typeof RestoreService>;
  readonly tokens: Client<typeof TokenService>;
  /** The failure behind whatever one of its calls threw. */
  readonly failureOf: (error: unknown) => Failure;
  /** See watchOperation. */
  readonly watchOperation: (operation: string, options: WatchOptions) => AsyncIterable<Operation>;
  /** See watchLog. */
  readonly watchLog: (
    operation: string,
    options: WatchOptions & { readonly follow: boolean },
  ) => AsyncIterable<OperationLogLine>;
}

const callTimeoutMs = 30_000;
const repetitions = 2;

/** Repeats what cannot be done twice: reads, and requests whose id the control plane remembers. */
function repeating(address: string): Interceptor {
  return (next) => async (request) => {
    if (request.stream) return next(request);
    const { message, method } = request;
    const isSafe = /^(?:Get|List|Discover)/.test(method.name) || ("requestId" in message && message.requestId !== "");
    for (let attempt = 0; ; attempt++) {
      try {
        return await next(request);
      } catch (error) {
        const failure = callFailure(error, address, request.signal);
        if (!isSafe || attempt === repetitions || failure.reason !== "CONTROL_PLANE_UNREACHABLE") throw failure;
        await wait(backoffMs(attempt, { baseMs: 200, capMs: 1000 }), undefined, { signal: request.signal });
      }
    }
  };
}

/** Opens the services of a control plane whose certificate must come from `root` (PEM) and carry the address's name. */
export function openApi({ address, token }: Pick<Target, "address" | "token">, root: string, signal: AbortSignal): Api {
  const nodeOptions = { ca: [root], minVersion: minTlsVersion } satisfies SecureClientSessionOptions;
  const sessionManager = new Http2SessionManager(address, {}, nodeOptions);
  const transport = createGrpcTransport({
    baseUrl: address,
    sessionManager,
    nodeOptions,
    defaultTimeoutMs: callTimeoutMs,
    interceptors: [
      repeating(address),
      (next) => (request) => {
        request.header.set("authorization", `Bearer ${token}`);
        return next({ ...request, signal: AbortSignal.any([request.signal, signal]) });
      },
    ],
  });
  const operations = createClient(OperationService, transport);
  return {
    address,
    audit: createClient(AuditService, transport),
    backups: createClient(BackupService, transport),
    clusters: createClient(ClusterService, transport),
    findings: createClient(FindingService, transport),
    hosts: createClient(HostService, transport),
    operations,
    repositories: createClient(RepositoryService, transport),
    restores: createClient(RestoreService, transport),
    tokens: createClient(TokenService, transport),
    failureOf: (error) => callFailure(error, address, signal),
    watchOperation: (operation, options) => watchOperation({ operations, address }, operation, options),
    watchLog: (operation, options) => watchLog({ operations, address }, operation, options),
    [Symbol.dispose]: () => sessionManager.abort(),
  };
}
