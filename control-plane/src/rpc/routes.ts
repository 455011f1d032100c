import type { KeyObject } from "node:crypto";
import type { ConnectRouter } from "@connectrpc/connect";
import { AgentService } from "@coppice/proto/gen/coppice/agent/v1/agent_service";
import { AuditService } from "@coppice/proto/gen/coppice/control/v1/audit";
import { BackupService } from "@coppice/proto/gen/coppice/control/v1/backup";
import { ClusterService } from "@coppice/proto/gen/coppice/control/v1/cluster";
import { FindingService } from "@coppice/proto/gen/coppice/control/v1/finding";
import { HostService } from "@coppice/proto/gen/coppice/control/v1/host";
import { OperationService } from "@coppice/proto/gen/coppice/control/v1/operation";
import { RepositoryService } from "@coppice/proto/gen/coppice/control/v1/repository";
import { RestoreService } from "@coppice/proto/gen/coppice/control/v1/restore";
import { TokenService } from "@coppice/proto/gen/coppice/control/v1/token";
import { longestSessionMessage } from "@coppice/proto/kit/session/longest-message";
import { Health } from "@coppice/proto/gen/grpc/health/v1/health";
import type { WatchParts } from "../operations/watch/watch.ts";
import type { Authority } from "../fleet/authority.ts";
import type { Fleet } from "../fleet/fleet.ts";
import { createAgentService } from "./agent-service.ts";
import { auditService } from "./audit-service.ts";
import { backupService } from "./backup-service.ts";
import { clusterService } from "./cluster-service.ts";
import { findingService } from "./finding-service.ts";
import { healthService } from "./health-service.ts";
import { type Enrol, hostService } from "./host-service.ts";
import { operationService } from "./operation-service.ts";
import { repositoryService } from "./repository-service.ts";
import { restoreService } from "./restore-service.ts";
import { openStart } from "./start.ts";
import { tokenService } from "./token-service.ts";

/** What the services work with. */
export interface RouteParts extends WatchParts {
  readonly masterKey: KeyObject;
  readonly enrol: Enrol;
  readonly authority: Authority;
  readonly fleet: Fleet;
}

/** Routes of every service: for people and programs, for agents, and of health. */
export function routes(parts: RouteParts): (router: ConnectRouter) => void {
  const { catalog, masterKey, enrol, authority, fleet } = parts;
  const start = openStart(catalog);
  return (router) => {
    const agents = createAgentService({ catalog, authority, fleet });
    router
      .rpc(AgentService.method.enroll, agents.enroll)
      // A manifest names every object of a backup; and who sends it has shown a certificate before it is read.
      .rpc(AgentService.method.session, agents.session, { readMaxBytes: longestSessionMessage })
      .service(AuditService, auditService({ catalog }))
      .service(BackupService, backupService({ catalog, start }))
      .service(ClusterService, clusterService({ catalog, masterKey, start }))
      .service(FindingService, findingService({ catalog }))
      .service(Health, healthService({ checkReady: () => catalog.checkReachable() }))
      .service(HostService, hostService({ catalog, enrol }))
      .service(OperationService, operationService(parts))
      .service(RepositoryService, repositoryService({ catalog, start, masterKey }))
      .service(RestoreService, restoreService({ start, masterKey }))
      .service(TokenService, tokenService({ catalog }));
  };
}
