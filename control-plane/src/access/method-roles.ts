import type { DescMethod } from "@bufbuild/protobuf";
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
import type { RoleName } from "../catalog/schema/token.ts";

/** What a method asks of its caller: a role, or that it authenticates the caller itself (agents, health). */
export type MethodRole = RoleName | "SELF";

/** Every service that the control plane serves to people and agents. */
export const servedServices = {
  AgentService,
  AuditService,
  BackupService,
  ClusterService,
  FindingService,
  HostService,
  OperationService,
  RepositoryService,
  RestoreService,
  TokenService,
};
type Served = typeof servedServices;

/** The one table of who may call what. A method that is missing does not compile. */
export const methodRoles = {
  AgentService: { enroll: "SELF", session: "SELF" },
  AuditService: { listAuditRecords: "ADMIN" },
  BackupService: {
    createBackup: "OPERATOR",
    getBackup: "VIEWER",
    listBackups: "VIEWER",
    verifyBackup: "OPERATOR",
    deleteBackup: "ADMIN",
    getRecipe: "VIEWER",
  },
  ClusterService: {
    createCluster: "ADMIN",
    getCluster: "VIEWER",
    listClusters: "VIEWER",
    updateCluster: "ADMIN",
    addInstance: "ADMIN",
    removeInstance: "ADMIN",
    checkCluster: "OPERATOR",
    fixCluster: "ADMIN",
    discoverClusters: "VIEWER",
    deleteCluster: "ADMIN",
    updateWalArchive: "ADMIN",
    getWalArchive: "VIEWER",
    verifyWal: "OPERATOR",
    cleanWal: "ADMIN",
    getRecoveryWindow: "VIEWER",
  },
  FindingService: { listFindings: "VIEWER" },
  HostService: {
    createEnrolment: "ADMIN",
    getHost: "VIEWER",
    listHosts: "VIEWER",
    updateHost: "ADMIN",
    deleteHost: "ADMIN",
    revokeHost: "ADMIN",
  },
  OperationService: {
    getOperation: "VIEWER",
    listOperations: "VIEWER",
    cancelOperation: "OPERATOR",
    resolveOperation: "ADMIN",
    waitOperation: "VIEWER",
    watchOperation: "VIEWER",
    watchLog: "VIEWER",
  },
  RepositoryService: {
    createRepository: "ADMIN",
    getRepository: "VIEWER",
    listRepositories: "VIEWER",
    createRecoveryChallenge: "ADMIN",
    updateRepository: "ADMIN",
    cleanRepository: "ADMIN",
    rebuildRepository: "ADMIN",
    checkRepository: "OPERATOR",
    deleteRepository: "ADMIN",
  },
  RestoreService: { planRestore: "OPERATOR", createRestore: "OPERATOR", decideRestore: "OPERATOR" },
  TokenService: { createToken: "ADMIN", getCurrentToken: "VIEWER", listTokens: "ADMIN", revokeToken: "ADMIN" },
} as const satisfies { [S in keyof Served]: { [M in keyof Served[S]["method"]]: MethodRole } };

const byMethod = new Map<string, MethodRole>(
  Object.entries(servedServices).flatMap(([name, service]) => {
    const roles: Readonly<Record<string, MethodRole>> = methodRoles[name as keyof Served];
    return service.methods.map((method): [string, MethodRole] => [
      fullName(method),
      roles[method.localName] ?? "ADMIN",
    ]);
  }),
);

/** What the method asks of its caller; undefined for methods that are not ours, such as those of health. */
export function methodRole(method: DescMethod): MethodRole | undefined {
  return byMethod.get(fullName(method));
}

/** Whether a caller of the one role may do what asks for the other: each role includes those before it. */
export function includesRole(has: RoleName, needs: RoleName): boolean {
  const order: readonly RoleName[] = ["VIEWER", "OPERATOR", "ADMIN"];
  return order.indexOf(has) >= order.indexOf(needs);
}

function fullName(method: DescMethod): string {
  return `${method.parent.typeName}/${method.name}`;
}
