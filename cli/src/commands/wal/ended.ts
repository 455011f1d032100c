import { WalMode } from "@coppice/proto/gen/coppice/common/v1/wal_archive";
import type { WalArchive } from "@coppice/proto/gen/coppice/control/v1/cluster";
import { isFailure } from "@coppice/proto/kit/failure";
import { slotName } from "@coppice/proto/kit/wal/slot-name";
import { printable } from "../../output/printable.ts";
import type { Terminal } from "../../output/terminal.ts";
import type { Session } from "../../session.ts";

/** How WAL of a cluster is archived, before that ends; undefined where the catalog knows of no such cluster or archive. */
export async function findArchive(
  { clusters }: Pick<Awaited<ReturnType<Session["api"]>>, "clusters">,
  cluster: string,
): Promise<WalArchive | undefined> {
  try {
    const archive = await clusters.getWalArchive({ cluster });
    return archive.repository === "" ? undefined : archive;
  } catch (error) {
    // What an agent does unasked is ended by the cluster's id.
    if (!isFailure(error, "CLUSTER_NOT_FOUND")) throw error;
    return undefined;
  }
}

// SHOW says nothing of it while archive_mode is off.
const resets = [
  "  SELECT reset_val FROM pg_settings WHERE name = 'archive_command';",
  "  -- only where that names coppice-wal; any other command is somebody else's:",
  "  ALTER SYSTEM RESET archive_command; ALTER SYSTEM RESET archive_timeout; SELECT pg_reload_conf();",
  "  -- where the first line gives nothing now, and archive_mode is on or to be on, or WAL is kept for ever:",
  "  ALTER SYSTEM SET archive_command = 'true'; SELECT pg_reload_conf();",
];

/** What its agent does on the server after an archive has ended, and what is to be done where it cannot; empty without one. */
export function describeLeft(
  archive: Pick<WalArchive, "cluster" | "settings" | "hostName" | "trouble"> | undefined,
  { paint }: Pick<Terminal, "paint">,
): string {
  if (archive === undefined) return "";
  const { cluster, settings, hostName, trouble } = archive;
  const slot = printable(slotName(settings?.slot ?? "", cluster));
  const isPush = settings?.mode === WalMode.PUSH;
  const isOthers = trouble?.reason === "ARCHIVE_COMMAND_TAKEN";
  const does = !isPush
    ? `drops the slot ${slot}`
    : isOthers
      ? "leaves archive_command as it is, which is somebody else's, and drops a slot that is left"
      : "gives archive_command back, and drops a slot that is left";
  return [
    `${paint("yellow", "!")} the agent of ${hostName} ${does}, once it hears of it and reaches the server. Where it never does, on the server as a superuser:`,
    ...(isPush && !isOthers ? resets : []),
    `  SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '${slot}' AND NOT active;`,
    ...(isPush && !isOthers
      ? ["  archive_mode stays on; to have it off, ALTER SYSTEM SET archive_mode = off; and a restart"]
      : []),
    "",
  ].join("\n");
}
