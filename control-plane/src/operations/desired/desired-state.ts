import { create, fromJson } from "@bufbuild/protobuf";
import {
  type DesiredEntry,
  DesiredEntrySchema,
  type DesiredState,
  DesiredStateSchema,
} from "@coppice/proto/gen/coppice/agent/v1/desired_state";
import { WalArchiveSchema } from "@coppice/proto/gen/coppice/agent/v1/wal_archive";
import { WalSettingsSchema } from "@coppice/proto/gen/coppice/common/v1/wal_archive";
import type { KeyObject } from "node:crypto";
import type { Database } from "../../catalog/catalog.ts";
import { listWalArchives, type WalArchiveRow } from "../../catalog/physical/wal-archive.ts";
import { openSecrets } from "../command.ts";
import { lookUpFacts } from "../facts.ts";
import { required } from "../kinds/kind.ts";

/** A page is far below what a message may have: an entry has a few secrets and keys of servers. */
const entriesOfPage = 100;

/**
 * What a host's agent is to carry out with or without us, in pages, its secrets opened. Errors: SECRET_UNREADABLE; one
 * entry that cannot be made keeps all of it back, for without it the agent would stop what it does.
 */
export async function desiredState(
  db: Database,
  masterKey: KeyObject,
  { hostId, revision }: { readonly hostId: string; readonly revision: bigint },
): Promise<DesiredState[]> {
  const entries: DesiredEntry[] = [];
  for (const row of await listWalArchives(db, hostId)) entries.push(await walEntry(db, masterKey, row));
  const pages = Math.max(1, Math.ceil(entries.length / entriesOfPage));
  return Array.from({ length: pages }, (_, index) =>
    create(DesiredStateSchema, {
      revision,
      last: index === pages - 1,
      entries: entries.slice(index * entriesOfPage, (index + 1) * entriesOfPage),
    }),
  );
}

async function walEntry(db: Database, masterKey: KeyObject, row: WalArchiveRow): Promise<DesiredEntry> {
  const { clusterId, hostId, repositoryId, systemIdentifier } = row;
  // What is stored is compared with what is there already, so it is read too.
  const facts = await lookUpFacts(db, hostId, { clusterId, repositoryId, purposes: ["write", "read"] });
  const { name, connection } = required(facts.cluster);
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
      }),
    },
  });
}
