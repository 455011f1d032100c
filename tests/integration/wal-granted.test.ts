// From which timeline on WAL is granted, as it goes from one repository to another: agents played, a real catalog.
import { ClusterService } from "@coppice/proto/gen/coppice/control/v1/cluster";
import { RepositoryService } from "@coppice/proto/gen/coppice/control/v1/repository";
import { afterAll, beforeAll, expect, test } from "vitest";
import { findHost } from "../../control-plane/src/catalog/host.ts";
import { findWalArchive } from "../../control-plane/src/catalog/physical/wal-archive.ts";
import { acknowledgeWalEnd, putWalArchive } from "../../control-plane/src/catalog/physical/wal-owner.ts";
import { type ControlPlaneLab, openControlPlaneLab } from "../support/control-plane-lab.ts";
import { systemIdentifier } from "../support/physical/played-backups.ts";
import { openArchived, report, run, setUp } from "../support/wal/told-archive.ts";

const heartbeatMs = 1000;
let lab: ControlPlaneLab;

beforeAll(async () => {
  lab = await openControlPlaneLab({ heartbeatMs });
});
afterAll(async () => {
  await lab[Symbol.asyncDispose]();
});

/** A cluster that was promoted on timeline 2 and moved to another agent since, and two repositories: that one, and an empty one. */
async function openPromoted(name: string) {
  const place = await openArchived(lab, heartbeatMs, name);
  using agent = place.agent;
  const stored = [run("0/2000000", "0/3000000"), { ...run("0/3000000", "0/4000000"), timeline: 2 }];
  await report(agent, place, { timeline: 2, stored, storedLsn: "0/4000000" });
  const { clusterId } = place;
  const other = await lab.client(RepositoryService).createRepository({
    name: `${name}-other`,
    homeHost: name,
    location: { kind: { case: "filesystem", value: { path: `/srv/${name}-other` } } },
  });
  await lab.enrol(`${name}-heir`);
  const first = (await findHost(lab.catalog.db, name))?.id ?? "";
  const heir = (await findHost(lab.catalog.db, `${name}-heir`))?.id ?? "";
  const ask = (hostId: string, repositoryId: string) =>
    lab.catalog.transaction((tx) =>
      putWalArchive(tx, { clusterId, hostId, repositoryId, systemIdentifier, settings: {} }, new Date()),
    );
  return {
    main: place.repositoryId,
    other: other.id,
    first,
    heir,
    ask,
    /** Has another host's agent archive it, into that repository, once the one of now has ended. */
    async moveTo(hostId: string, repositoryId: string) {
      await ask(hostId, repositoryId);
      const waiting = await findWalArchive(lab.catalog.db, clusterId);
      const end = { clusterId, hostId: waiting?.hostId ?? "", endNumber: waiting?.nextEndNumber ?? 0n };
      const acknowledged = { ...end, stored: { timeline: 2, lsn: 0x4000000n } };
      await lab.catalog.transaction((tx) => acknowledgeWalEnd(tx, acknowledged, new Date()));
    },
    granted: async () => (await lab.client(ClusterService).getWalArchive({ cluster: name })).ownership?.firstTimeline,
    end: () => setUp(lab, name, { disable: true, repository: "" }),
  };
}

test("WAL that went to another repository and comes back is granted from the timeline that was archived there", async () => {
  const { main, other, heir, ask, moveTo, granted, end } = await openPromoted("returns");
  await moveTo(heir, main);
  expect(await granted()).toBe(2);
  await ask(heir, main);
  expect(await granted()).toBe(2);
  await ask(heir, other);
  expect(await granted()).toBe(0);
  await ask(heir, main);
  expect(await granted()).toBe(2);
  // Nor is it forgotten when archiving was ended meanwhile.
  await end();
  await ask(heir, main);
  expect(await granted()).toBe(2);
});

test("WAL that goes to another agent and another repository at once is granted from what that repository holds", async () => {
  const { main, other, first, heir, ask, moveTo, granted } = await openPromoted("departs");
  await moveTo(heir, other);
  expect(await granted()).toBe(0);
  await ask(heir, other);
  expect(await granted()).toBe(0);
  await moveTo(first, main);
  expect(await granted()).toBe(2);
});
