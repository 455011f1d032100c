import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampNow } from "@bufbuild/protobuf/wkt";
import {
  type BackupDumpCommand,
  type BackupDumpResult,
  BackupDumpResultSchema,
} from "@coppice/proto/gen/coppice/agent/v1/backup_dump";
import type { Command } from "@coppice/proto/gen/coppice/agent/v1/command";
import { BackupKind } from "@coppice/proto/gen/coppice/common/v1/backup_kind";
import { BackupService } from "@coppice/proto/gen/coppice/control/v1/backup";
import { ClusterService } from "@coppice/proto/gen/coppice/control/v1/cluster";
import { type Operation, OperationService, OperationState } from "@coppice/proto/gen/coppice/control/v1/operation";
import { RepositoryService } from "@coppice/proto/gen/coppice/control/v1/repository";
import { BackupManifestSchema } from "@coppice/proto/gen/coppice/repository/v1/manifest";
import type { Identity } from "../../agent/src/session/identity.ts";
import type { ControlPlaneLab } from "./control-plane-lab.ts";
import { openSimulatedAgent, type SimulatedAgent, type SimulatedAgentOptions } from "./simulated-agent.ts";

/** A host with an agent that the test plays, a cluster and a repository on it, all of the same name. */
export interface OperationLab {
  readonly name: string;
  readonly identity: Identity;
  /** Connects the agent; a new boot id each time unless one is given. */
  connect(options?: Partial<SimulatedAgentOptions>): Promise<SimulatedAgent>;
  get(operation: string): Promise<Operation>;
  /** Waits until the operation is in that state. */
  until(operation: string, state: OperationState): Promise<Operation>;
  /** Starts a backup of the cluster into the repository; gives the operation's id. */
  backUp(): Promise<string>;
  /** A whole backup in the catalog, the agent's part played by `agent`; gives its id. */
  makeBackup(agent: SimulatedAgent): Promise<string>;
}

/** Makes host, cluster and repository of that name. */
export async function openOperationLab(lab: ControlPlaneLab, name: string, heartbeatMs: number): Promise<OperationLab> {
  const identity = await lab.enrol(name);
  await lab.client(ClusterService).createCluster({
    name,
    host: name,
    endpoint: { address: { case: "socketDirectory", value: `/run/${name}` }, port: 5432 },
    password: `password of ${name}`,
  });
  await lab.client(RepositoryService).createRepository({
    name,
    homeHost: name,
    location: { kind: { case: "filesystem", value: { path: `/srv/${name}` } } },
  });
  const get = (operation: string) => lab.client(OperationService).getOperation({ operation });
  const until = async (id: string, state: OperationState) => {
    const deadline = performance.now() + 20_000;
    for (let known = ""; ;) {
      const seen = await lab.client(OperationService).waitOperation({
        operation: id,
        cursor: known,
        timeout: { seconds: 5n },
      });
      if (seen.state === state) return seen;
      if (performance.now() > deadline || seen.endTime) {
        throw new Error(`${id} is ${OperationState[seen.state]} and not ${OperationState[state]}: ${seen.stateReason}`);
      }
      known = seen.cursor;
    }
  };
  const backUp = async () => (await lab.client(BackupService).createBackup({ cluster: name, repository: name })).id;
  return {
    name,
    identity,
    get,
    until,
    backUp,
    async connect(options = {}) {
      const agent = openSimulatedAgent({ identity, address: lab.app.address, heartbeatMs, ...options });
      await agent.next("welcome");
      return agent;
    },
    async makeBackup(agent) {
      const id = await backUp();
      const command = await agent.next("command");
      agent.accept(command);
      const result = dumpResult(dumpOf(command));
      agent.answer(command, { result: { case: "backupDump", value: result } });
      await until(id, OperationState.SUCCEEDED);
      return result.manifest?.backupId ?? "";
    },
  };
}

/** The dump command, wherever it is in: a command, or the lost one of a settle command. */
export function dumpOf({ spec }: Command): BackupDumpCommand {
  if (spec.case === "backupDump") return spec.value;
  if (spec.case === "settle" && spec.value.lost.case === "backupDump") return spec.value.lost.value;
  throw new Error(`${spec.case} is no dump`);
}

/** What an agent says of a dump of one database; `manifest` changes what its manifest says. */
export function dumpResult(
  { backup, clusterName }: BackupDumpCommand,
  manifest: Omit<MessageInitShape<typeof BackupManifestSchema>, "$typeName"> = {},
): BackupDumpResult {
  const object = { key: "db/16384.dump.zst.0000", sizeBytes: 10n, sha256: "a".repeat(64) };
  return create(BackupDumpResultSchema, {
    manifest: create(BackupManifestSchema, {
      formatVersion: 1,
      backupId: backup?.backupId ?? "",
      kind: BackupKind.DUMP,
      clusterId: backup?.clusterId ?? "",
      clusterName,
      systemIdentifier: "7123",
      serverVersionNum: 150_009,
      startTime: timestampNow(),
      endTime: timestampNow(),
      complete: true,
      recipe: { key: "RECOVER.txt", sizeBytes: 4n, sha256: "b".repeat(64) },
      content: {
        case: "dump",
        value: {
          globals: { codec: "zstd", objects: [{ key: "globals.sql.zst.0000", sizeBytes: 3n, sha256: "c".repeat(64) }] },
          databases: [{ oid: 16384, name: "orders", sizeBytes: 100n, stream: { codec: "zstd", objects: [object] } }],
        },
      },
      ...manifest,
    }),
    manifestSha256: "d".repeat(64),
    storedBytes: 17n,
    recipe: "psql",
    facts: { systemIdentifier: "7123", serverVersionNum: 150_009 },
  });
}
