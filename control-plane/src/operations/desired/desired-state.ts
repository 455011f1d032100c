import { create, fromJson } from "@bufbuild/protobuf";
import {
  type DesiredEntry,
  DesiredEntrySchema,
  type DesiredState,
  DesiredStateSchema,
  type EndedEntry,
  EndedEntrySchema,
} from "@coppice/proto/gen/coppice/agent/v1/desired_state";
import { WalArchiveSchema, WalEndSchema } from "@coppice/proto/gen/coppice/agent/v1/wal_archive";
import { WalSettingsSchema } from "@coppice/proto/gen/coppice/common/v1/wal_archive";
import { slotName } from "@coppice/proto/kit/wal/slot-name";
import type { KeyObject } from "node:crypto";
import type { Database } from "../../catalog/catalog.ts";
import { clusterNames } from "../../catalog/cluster.ts";
import { listEnded } from "../../catalog/physical/desired.ts";
import { toldTo } from "../../catalog/physical/ownership.ts";
import { findWalArchive, listWalArchives, type WalArchiveRow } from "../../catalog/physical/wal-archive.ts";
import { ownershipOf } from "../../catalog/physical/wal-owner.ts";
import { listExtents } from "../../catalog/physical/wal-knowledge.ts";
import { openSecrets } from "../command.ts";
import { lookUpFacts } from "../facts.ts";
import { required } from "../kinds/kind.ts";

/** A page is far below what a message may have: an entry has a few secrets and keys of servers. */
const entriesOfPage = 100;

/**
 * What a host's agent is to carry out with or without us, in pages, its secrets opened. Errors: SECRET_UNREADABLE; one
 * entry that cannot be made keeps all of it back, for without it the agent would go on as it was told before.
 */
export async function desiredState(
  db: Database,
  masterKey: KeyObject,
  { hostId, revision }: { readonly hostId: string; readonly revision: bigint },
): Promise<DesiredState[]> {
  const entries: DesiredEntry[] = [];
  for (const row of await listWalArchives(db, hostId)) {
    const told = toldTo(ownershipOf(row), hostId);
    if (told?.is === "write") entries.push(await walEntry(db, masterKey, row));
    if (told?.is === "end") entries.push(await endEntry(db, row, told.number));
  }
  const ended: EndedEntry[] = [];
  for (const one of await listEnded(db, hostId)) ended.push(await endedEntry(db, one, entries));
  const pages = Math.max(1, Math.ceil(entries.length / entriesOfPage));
  return Array.from({ length: pages }, (_, index) =>
    create(DesiredStateSchema, {
      revision,
      last: index === pages - 1,
      entries: entries.slice(index * entriesOfPage, (index + 1) * entriesOfPage),
      ended: index === pages - 1 ? ended : [],
    }),
  );
}

async function walEntry(db: Database, masterKey: KeyObject, row: WalArchiveRow): Promise<DesiredEntry> {
  const { clusterId, hostId, repositoryId, systemIdentifier } = row;
  // What is stored is compared with what is there already, so it is read too.
  const facts = await lookUpFacts(db, hostId, { clusterId, repositoryId, purposes: ["write", "read"] });
  const { name, connection } = required(facts.cluster);
  const extents = await listExtents(db, { clusterId, systemIdentifier });
  return create(DesiredEntrySchema, {
    id: clusterId,
    secrets: await openSecrets(db, masterKey, facts),
    desired: {
      case: "walArchive",
      value: create(WalArchiveSchema, {
        clusterId,
        clusterName: name,
        connection,
        repository: required(facts.repository),
        settings: fromJson(WalSettingsSchema, row.settings, { ignoreUnknownFields: true }),
        systemIdentifier,
        grant: { number: row.grantNumber, firstTimeline: row.grantTimeline },
        knownClusters: [...required(facts.storedClusters)],
        nothingArchived: extents.every((extent) => extent.repositoryId !== repositoryId),
      }),
    },
  });
}

/** With who goes on; what an entry tells of it is more. */
async function endedEntry(
  db: Database,
  { id, revision }: { readonly id: string; readonly revision: bigint },
  entries: readonly DesiredEntry[],
): Promise<EndedEntry> {
  const row = entries.some((entry) => entry.id === id) ? undefined : await findWalArchive(db, id);
  if (row === undefined) return create(EndedEntrySchema, { id, revision });
  const { slot } = fromJson(WalSettingsSchema, row.settings, { ignoreUnknownFields: true });
  const successor = { systemIdentifier: row.systemIdentifier, slot: slotName(slot, id) };
  return create(EndedEntrySchema, { id, revision, successor });
}

/** Needs no secret and no connection: what an agent was let into before may be another place by now. */
async function endEntry(db: Database, row: WalArchiveRow, number: bigint): Promise<DesiredEntry> {
  const { clusterId, repositoryId, systemIdentifier } = row;
  const clusterName = (await clusterNames(db, [clusterId])).get(clusterId) ?? "";
  const end = create(WalEndSchema, { clusterId, clusterName, repositoryId, systemIdentifier, number });
  return create(DesiredEntrySchema, { id: clusterId, desired: { case: "walEnd", value: end } });
}
