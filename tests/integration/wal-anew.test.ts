// How WAL is archived in a catalog that was made anew: what only agents know of it.
import { create } from "@bufbuild/protobuf";
import { WalMode, WalSettingsSchema } from "@coppice/proto/gen/coppice/common/v1/wal_archive";
import { ClusterService } from "@coppice/proto/gen/coppice/control/v1/cluster";
import { RepositoryService } from "@coppice/proto/gen/coppice/control/v1/repository";
import { afterAll, beforeAll, test } from "vitest";
import { findHost } from "../../control-plane/src/catalog/host.ts";
import { noteStrayArchive } from "../../control-plane/src/catalog/physical/told/stray-archive.ts";
import { type ControlPlaneLab, openControlPlaneLab } from "../support/control-plane-lab.ts";
import { openOperationLab } from "../support/operation-lab.ts";
import { checkPlayed } from "../support/physical/played-backups.ts";
import { report, setUp } from "../support/wal/told-archive.ts";

const heartbeatMs = 1000;
let lab: ControlPlaneLab;

beforeAll(async () => {
  lab = await openControlPlaneLab({ heartbeatMs });
});
afterAll(async () => {
  await lab[Symbol.asyncDispose]();
});

test.concurrent("is what the agent does already, but for what is said", async ({ expect }) => {
  const db = await openOperationLab(lab, "anew", heartbeatMs);
  using agent = await db.connect({ capabilities: ["checkCluster", "walArchive", "walPush"] });
  await checkPlayed(lab, db, agent);
  const { id: clusterId } = await lab.client(ClusterService).getCluster({ cluster: "anew" });
  const { id: repositoryId } = await lab.client(RepositoryService).getRepository({ repository: "anew" });
  const settings = create(WalSettingsSchema, { mode: WalMode.PUSH, maxAge: { seconds: 5n } });
  await report(agent, { db, clusterId, repositoryId }, { clusterName: "anew", settings });
  const told = await lab.client(ClusterService).getWalArchive({ cluster: "anew" });
  expect(told).toMatchObject({ repository: "", settings });
  expect(await setUp(lab, "anew")).toMatchObject({ repositoryName: "anew", settings });
  expect(await setUp(lab, "anew", { settings: {} })).toMatchObject({ settings: { mode: WalMode.STREAM } });
});

test.concurrent("stays so when its host was away for a while, whatever another one's agent does", async ({
  expect,
}) => {
  const db = await openOperationLab(lab, "long-ago", heartbeatMs);
  using agent = await db.connect({ capabilities: ["checkCluster", "walArchive", "walPush"] });
  await checkPlayed(lab, db, agent);
  const { id: clusterId } = await lab.client(ClusterService).getCluster({ cluster: "long-ago" });
  await lab.enrol("since");
  const told = async (name: string, settings: { mode: string; maxAge: string }, time: number) => {
    const hostId = (await findHost(lab.catalog.db, name))?.id ?? "";
    const stray = { hostId, heldRevision: 0n, clusterId, clusterName: "long-ago", settings };
    await noteStrayArchive(lab.catalog.db, stray, new Date(time));
  };
  await told("since", { mode: "WAL_MODE_STREAM", maxAge: "9s" }, Date.now());
  expect(await setUp(lab, "long-ago", { validateOnly: true })).toMatchObject({
    settings: { maxAge: { seconds: 9n } },
  });
  await told("long-ago", { mode: "WAL_MODE_PUSH", maxAge: "5s" }, Date.now() - 86_400_000);
  const settings = { mode: WalMode.PUSH, maxAge: { seconds: 5n } };
  expect(await lab.client(ClusterService).getWalArchive({ cluster: "long-ago" })).toMatchObject({ settings });
  expect(await setUp(lab, "long-ago")).toMatchObject({ settings });
});
