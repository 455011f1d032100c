import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampNow } from "@bufbuild/protobuf/wkt";
import {
  type BackupPhysicalCommand,
  type BackupPhysicalResult,
  BackupPhysicalResultSchema,
} from "@coppice/proto/gen/coppice/agent/v1/backup_physical";
import type { Command } from "@coppice/proto/gen/coppice/agent/v1/command";
import { BackupKind } from "@coppice/proto/gen/coppice/common/v1/backup_kind";
import { BackupService } from "@coppice/proto/gen/coppice/control/v1/backup";
import { ClusterService } from "@coppice/proto/gen/coppice/control/v1/cluster";
import { OperationState } from "@coppice/proto/gen/coppice/control/v1/operation";
import { BackupManifestSchema } from "@coppice/proto/gen/coppice/repository/v1/manifest";
import { PhysicalContentSchema } from "@coppice/proto/gen/coppice/repository/v1/physical_content";
import type { ControlPlaneLab } from "../control-plane-lab.ts";
import type { OperationLab } from "../operation-lab.ts";
import type { SimulatedAgent } from "../simulated-agent.ts";

/** System identifier of the servers that tests of physical backups play. */
export const systemIdentifier = "7380000000000000001";

type Physical = Omit<MessageInitShape<typeof PhysicalContentSchema>, "$typeName">;

/** Has the cluster checked, the agent's part played by `agent`: a primary of PostgreSQL 17. */
export async function checkPlayed(lab: ControlPlaneLab, db: OperationLab, agent: SimulatedAgent): Promise<void> {
  const { id } = await lab.client(ClusterService).checkCluster({ cluster: db.name });
  const command = await agent.next("command");
  const facts = { systemIdentifier, serverVersionNum: 170_002 };
  agent.answer(command, { result: { case: "checkCluster", value: { facts } } });
  await db.until(id, OperationState.SUCCEEDED);
}

/** The command of a physical backup, wherever it is in: a command, or the lost one of a settle command. */
export function physicalOf({ spec }: Command): BackupPhysicalCommand {
  if (spec.case === "backupPhysical") return spec.value;
  if (spec.case === "settle" && spec.value.lost.case === "backupPhysical") return spec.value.lost.value;
  throw new Error(`${spec.case} is no physical backup`);
}

/** What an agent says of a physical backup; `physical` changes what its manifest says of it. */
export function physicalResult(command: BackupPhysicalCommand, physical: Physical = {}): BackupPhysicalResult {
  const { backup, clusterName, incremental, parent, options } = command;
  const stream = (name: string) => ({
    codec: "zstd",
    objects: [{ key: `data/${name}.zst.0000`, sizeBytes: 10n, sha256: "a".repeat(64) }],
  });
  const archived = {
    codec: "zstd",
    objects: [
      {
        key: "00000001/0000000100000000/000000010000000000000002",
        sizeBytes: 10n,
        sha256: "a".repeat(64),
      },
    ],
  };
  return create(BackupPhysicalResultSchema, {
    manifest: create(BackupManifestSchema, {
      formatVersion: 1,
      backupId: backup?.backupId ?? "",
      kind: incremental ? BackupKind.INCREMENTAL : BackupKind.FULL,
      clusterId: backup?.clusterId ?? "",
      clusterName,
      systemIdentifier,
      serverVersionNum: 170_002,
      startTime: timestampNow(),
      endTime: timestampNow(),
      complete: true,
      recipe: { key: "RECOVER.txt", sizeBytes: 4n, sha256: "b".repeat(64) },
      content: {
        case: "physical",
        value: create(PhysicalContentSchema, {
          base: stream("base.tar"),
          backupManifest: stream("backup_manifest"),
          backupManifestSha256: "c".repeat(64),
          tablespaces: [{ oid: 16_400, location: "/srv/fast", stream: stream("16400.tar") }],
          startLsn: "0/2000028",
          stopLsn: "0/2000120",
          timeline: 1,
          walSegmentBytes: 16_777_216n,
          dataBytes: 1000n,
          walEmbedded: options?.walEmbedded ?? false,
          ...(options?.walEmbedded ? { wal: stream("wal.tar") } : { archivedWal: [archived] }),
          parentBackupId: parent?.backupId ?? "",
          ...physical,
        }),
      },
    }),
    manifestSha256: "d".repeat(64),
    storedBytes: 17n,
    recipe: "tar",
  });
}

/** A physical backup in the catalog, the agent's part played by `agent`; gives its id. */
export async function makePhysical(
  lab: ControlPlaneLab,
  db: OperationLab,
  agent: SimulatedAgent,
  {
    kind = BackupKind.FULL,
    walEmbedded = true,
    physical = {},
    repository = db.name,
  }: {
    readonly kind?: BackupKind;
    readonly walEmbedded?: boolean;
    readonly physical?: Physical;
    readonly repository?: string;
  } = {},
): Promise<string> {
  const { id } = await lab.client(BackupService).createBackup({
    cluster: db.name,
    repository,
    kind,
    physical: { walEmbedded, walArchived: !walEmbedded },
  });
  const command = await agent.next("command");
  agent.accept(command);
  const value = physicalResult(physicalOf(command), physical);
  agent.answer(command, { result: { case: "backupPhysical", value } });
  await db.until(id, OperationState.SUCCEEDED);
  return value.manifest?.backupId ?? "";
}
