import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { WalReport } from "@coppice/proto/gen/coppice/agent/v1/wal_archive";
import { ClusterService } from "@coppice/proto/gen/coppice/control/v1/cluster";
import { failureFromConnectError } from "@coppice/proto/kit/connect-failure";
import type { ControlPlaneLab } from "../control-plane-lab.ts";
import { openOperationLab, type OperationLab } from "../operation-lab.ts";
import { checkPlayed, systemIdentifier } from "../physical/played-backups.ts";
import type { SimulatedAgent } from "../simulated-agent.ts";

/** Has the cluster's WAL archived into the repository of the same name. */
export const setUp = (lab: ControlPlaneLab, cluster: string, more: object = {}) =>
  lab.client(ClusterService).updateWalArchive({ cluster, repository: cluster, ...more });

/** The reason for which a call is refused; undefined when it is not. */
export async function reasonOf(work: Promise<unknown>) {
  return await work.then(
    () => undefined,
    (error: unknown) => failureFromConnectError(error).reason,
  );
}

/** A cluster whose WAL is to be archived. */
export interface Archived {
  readonly db: OperationLab;
  readonly clusterId: string;
  readonly repositoryId: string;
}

/** A checked cluster whose WAL is to be archived, its agent played by the test. */
export async function openArchived(
  lab: ControlPlaneLab,
  heartbeatMs: number,
  name: string,
): Promise<Archived & { agent: SimulatedAgent; revision: bigint }> {
  const db = await openOperationLab(lab, name, heartbeatMs);
  const agent = await db.connect();
  await checkPlayed(lab, db, agent);
  const { cluster: clusterId, repository: repositoryId } = await setUp(lab, name);
  const { revision } = await agent.next("desiredState");
  return { db, agent, clusterId, repositoryId, revision };
}

/** Tells what the agent has of WAL, and waits until it is stored. */
export async function report(
  agent: SimulatedAgent,
  { clusterId, repositoryId }: Archived,
  value: Partial<Omit<WalReport, "$typeName" | "$unknown">>,
): Promise<void> {
  const { number = 1n } = value;
  const common = { clusterId, repositoryId, systemIdentifier, timeline: 1, segmentBytes: 16_777_216n, number };
  agent.send({ case: "walReport", value: { ...common, ...value } as WalReport });
  for (;;) {
    const ack = await agent.next("walReportAck");
    if (ack.number === number && ack.clusterId === clusterId) return;
  }
}

/** A run of WAL without a hole, on timeline 1. */
export const run = (startLsn: string, endLsn: string) =>
  ({ timeline: 1, startLsn, endLsn }) as WalReport["stored"][number];
/** A time of the server's clock, in ms since 1970, and the end of its WAL then. */
export const anchor = (ms: number, lsn: string) =>
  ({ timeline: 1, time: timestampFromMs(ms), lsn }) as WalReport["anchors"][number];
