import { clone, create, fromJson } from "@bufbuild/protobuf";
import { WalMode, type WalSettings, WalSettingsSchema } from "@coppice/proto/gen/coppice/common/v1/wal_archive";
import type { UpdateWalArchiveRequest } from "@coppice/proto/gen/coppice/control/v1/cluster";
import { fail } from "@coppice/proto/kit/failure";
import { slotName } from "@coppice/proto/kit/wal/slot-name";
import type { Database } from "../../catalog/catalog.ts";
import type { ClusterRecord } from "../../catalog/cluster.ts";
import type { HostRow } from "../../catalog/host.ts";
import { findStraySettings } from "../../catalog/physical/told/stray-archive.ts";
import { findWalArchive } from "../../catalog/physical/wal-archive.ts";
import type { RepositoryRow } from "../../catalog/repository.ts";
import { requireHost } from "../../inventory/require.ts";
import { presentIncarnation } from "../present-incarnation.ts";
import { primaryInstance } from "../server/primary-instance.ts";
import { repositoryFor } from "../repository-for.ts";

/** What an agent that can archive WAL names among what it knows. */
const capability = "walArchive";
/** The same, for one that a server's archive_command can hand it to. */
const pushCapability = "walPush";

/** WAL of a cluster that is to be archived, resolved. */
export interface WantedArchive {
  readonly host: HostRow;
  readonly repository: RepositoryRow;
  readonly systemIdentifier: string;
  readonly settings: WalSettings;
}

/**
 * Resolves a request to archive WAL. Errors: CLUSTER_NOT_CHECKED, CLUSTER_WITHOUT_SERVER, REPOSITORY_NOT_FOUND,
 * REPOSITORY_AMBIGUOUS, REPOSITORY_WRONG_HOST, CAPABILITY_MISSING, INVALID_FIELD.
 */
export async function resolveWalArchive(
  db: Database,
  cluster: ClusterRecord,
  request: Pick<UpdateWalArchiveRequest, "repository" | "settings">,
): Promise<WantedArchive> {
  const { name, id } = cluster.row;
  const host = await requireHost(db, primaryInstance(cluster).hostId);
  const { systemIdentifier } = presentIncarnation(cluster);
  if (host.agentVersion !== "" && !host.capabilities.includes(capability)) {
    fail("CAPABILITY_MISSING", `the agent of ${host.name}, version ${host.agentVersion}, does not archive WAL`);
  }
  const present = await findWalArchive(db, id);
  // A catalog that was made anew does not know what its agents go on with.
  const told = present?.settings ?? (await findStraySettings(db, { clusterId: id, hostId: host.id }));
  const before = told === undefined ? undefined : fromJson(WalSettingsSchema, told, { ignoreUnknownFields: true });
  // Who says nothing of how changes nothing of it.
  const settings = clone(WalSettingsSchema, request.settings ?? before ?? create(WalSettingsSchema));
  const isPush = settings.mode === WalMode.PUSH;
  if (isPush && host.agentVersion !== "" && !host.capabilities.includes(pushCapability)) {
    const message = `the agent of ${host.name}, version ${host.agentVersion}, takes no WAL from archive_command`;
    fail("CAPABILITY_MISSING", message, {
      hint: `let the agent receive it: coppice wal setup ${name} --mode stream; or upgrade the agent on that host`,
    });
  }
  const repository = await repositoryFor(db, request.repository, { clusterId: id, host });
  settings.mode = isPush ? WalMode.PUSH : WalMode.STREAM;
  // The slot of the stream that was before is dropped by its name.
  if (isPush && before !== undefined) {
    const { slot } = before;
    if (settings.slot === "") settings.slot = slot;
    if (slotName(settings.slot, id) !== slotName(slot, id))
      fail("INVALID_FIELD", `in mode push there is no slot but that of the stream before, ${slotName(slot, id)}`, {
        fields: [{ field: "settings.slot", expected: "nothing, or the slot's present name" }],
      });
  }
  return { host, repository, systemIdentifier, settings };
}
