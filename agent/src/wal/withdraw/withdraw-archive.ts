import { join } from "node:path";
import { fail } from "@coppice/proto/kit/failure";
import { WalMode } from "@coppice/proto/gen/coppice/common/v1/wal_archive";
import type { WalArchive } from "@coppice/proto/gen/coppice/agent/v1/wal_archive";
import { openConnection } from "../../postgres/connect.ts";
import { resolveEndpoint } from "../../postgres/endpoint.ts";
import { quoteWord } from "../fetch/open-replay.ts";
import { releaseCommand } from "../push/archive-command.ts";
import { readArchiverState } from "../push/archiver-state.ts";
import { giveUpSlot } from "../push/hand-over.ts";
import { pushSocketPath } from "../push/push-socket.ts";
import { isStreamed } from "../push/release.ts";
import type { ArchiveOptions, RunningArchive } from "../receive/archive.ts";
import { slotOf } from "../receive/slot-name.ts";
import { newestGrant } from "../store/grant.ts";
import { openArchiveTarget } from "../store/open-target.ts";

/** An archive that has ended, and what its server is reached with. */
export interface EndedArchive extends Pick<ArchiveOptions, "archive" | "secret" | "clientFiles" | "budget"> {
  /** What archives the same server now, by another slot; undefined where nothing does. */
  readonly next:
    | {
        readonly archive: WalArchive;
        readonly running: Pick<RunningArchive, "heldFrom" | "pushes"> | undefined;
      }
    | undefined;
  /** Another agent archives the server by another slot: all else that is there may be that one's. */
  readonly isSucceeded: boolean;
  /** The agent's. */
  readonly dataDirectory: string;
}

const giveUpMs = 30_000;

/**
 * Has a server keep nothing any more for an archive that has ended: its archive_command is given back, and its slot is
 * dropped. Where another archive follows only the slot goes, once that one's keeps all that is not stored, or its
 * archive_command hands that over. What is gone
 * already, or is another server by now, is well; so is what another agent was granted since, of which this one may never
 * have heard. Fails with WAL_NOT_READY, SLOT_IN_USE, like a query or like a storage; after
 * half a minute at the latest.
 */
export async function withdrawArchive(ended: EndedArchive, signal: AbortSignal): Promise<void> {
  const { archive, next, isSucceeded, secret, clientFiles, budget, dataDirectory } = ended;
  const { clusterId, systemIdentifier } = archive;
  const { connection: reached } = next?.archive ?? archive;
  const endpoint = await resolveEndpoint(reached?.endpoint, secret(reached?.passwordSecret ?? ""), clientFiles);
  const limit = AbortSignal.any([signal, AbortSignal.timeout(giveUpMs)]);
  await using connection = await openConnection(endpoint, { signal: limit });
  const state = await readArchiverState(connection);
  // Of a server that is another one by now nothing is ours.
  if (state.systemIdentifier !== systemIdentifier) return;
  const slot = slotOf(archive);
  if (next === undefined && isSucceeded) return await giveUpSlot(connection, slot);
  if (next === undefined) {
    await using storage = await openArchiveTarget(archive, { secret, budget, signal: limit });
    if ((await newestGrant(storage, archive, limit)) > (archive.grant?.number ?? 0n)) return;
    const socket = pushSocketPath(join(dataDirectory, "push", clusterId));
    // Another agent's would be like it.
    if (state.command.endsWith(` ${quoteWord(socket)} %p`)) await releaseCommand(connection, state, socket);
    return await giveUpSlot(connection, slot);
  }
  const [left] = await connection.query("select from pg_replication_slots where slot_name = $1", [slot]);
  if (left === undefined) return;
  const present = slotOf(next.archive);
  // By archive_command everything is stored that lies before what waits in pg_wal.
  const { running } = next;
  if (!running?.pushes?.() && !(await isStreamed(connection, present, () => running?.heldFrom?.())))
    fail(
      "WAL_NOT_READY",
      next.archive.settings?.mode === WalMode.PUSH
        ? `the slot ${slot} is kept until a file is stored that archive_command hands over`
        : `the slot ${slot} keeps WAL that is not stored yet and that ${present} does not keep`,
    );
  await giveUpSlot(connection, slot);
}
