import { join } from "node:path";
import { fail } from "@coppice/proto/kit/failure";
import { parseLsn } from "@coppice/proto/kit/wal/lsn";
import { WalMode } from "@coppice/proto/gen/coppice/common/v1/wal_archive";
import type { WalArchive } from "@coppice/proto/gen/coppice/agent/v1/wal_archive";
import { openConnection, type PostgresConnection } from "../../postgres/connect.ts";
import { resolveEndpoint } from "../../postgres/endpoint.ts";
import { openReplication } from "../../postgres/replication/open-replication.ts";
import { unseen } from "../../storage/look-if-allowed.ts";
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
import { isStored } from "./is-stored.ts";

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
 * dropped. Where something archives the server since, only the slot goes, once all that it keeps is stored without a hole,
 * up to what that one's slot keeps or its archive_command hands over. What is gone already, or is another server by now, is
 * well; so is what another agent was granted since, of which this one may never have heard. Fails with WAL_NOT_READY,
 * SLOT_IN_USE, like a query or like a storage; after half a minute at the latest.
 */
export async function withdrawArchive(ended: EndedArchive, signal: AbortSignal): Promise<void> {
  const { archive, next, isSucceeded, secret, clientFiles, budget, dataDirectory } = ended;
  const { clusterId, systemIdentifier } = archive;
  const present = next?.archive ?? archive;
  const { connection: reached } = present;
  const endpoint = await resolveEndpoint(reached?.endpoint, secret(reached?.passwordSecret ?? ""), clientFiles);
  const limit = AbortSignal.any([signal, AbortSignal.timeout(giveUpMs)]);
  await using connection = await openConnection(endpoint, { signal: limit });
  const state = await readArchiverState(connection);
  // Of a server that is another one by now nothing is ours.
  if (state.systemIdentifier !== systemIdentifier) return;
  const slot = slotOf(archive);
  if (next === undefined && !isSucceeded) {
    await using storage = await openArchiveTarget(archive, { secret, budget, signal: limit });
    if ((await newestGrant(storage, archive, limit)) > (archive.grant?.number ?? 0n)) return;
    const socket = pushSocketPath(join(dataDirectory, "push", clusterId));
    // Another agent's would be like it.
    if (state.command.endsWith(` ${quoteWord(socket)} %p`)) await releaseCommand(connection, state, socket);
    return await giveUpSlot(connection, slot);
  }
  const [left] = await connection.query<{ lsn: string | null }>(
    `select case when wal_status <> 'lost' then restart_lsn::text end as lsn
    from pg_replication_slots where slot_name = $1`,
    [slot],
  );
  if (left === undefined) return;
  const toLsn = next && (await requireKept(connection, slot, next));
  if (left.lsn !== null) {
    await using replication = await openReplication(endpoint, { signal: limit });
    await using storage = await openArchiveTarget(present, { secret, budget, signal: limit });
    const listed = { place: present, segmentBytes: state.segmentBytes, signal: limit };
    const stored = await isStored(storage, replication, { fromLsn: parseLsn(left.lsn), toLsn, listed });
    // A stream has stored what lies before its position, as far as it is to be had.
    const isTrusted = stored === unseen && next !== undefined && !next.running?.pushes?.();
    if (stored !== true && !isTrusted)
      fail("WAL_NOT_READY", `the slot ${slot} alone keeps WAL from ${left.lsn} on that is not stored without a hole`);
  }
  await giveUpSlot(connection, slot);
}

/** From where on what archives the server now keeps all that is not stored. Fails with WAL_NOT_READY. */
async function requireKept(
  connection: PostgresConnection,
  slot: string,
  { archive, running }: NonNullable<EndedArchive["next"]>,
): Promise<bigint> {
  const present = slotOf(archive);
  const fromLsn = running?.heldFrom?.();
  const isKept = running?.pushes?.() || (await isStreamed(connection, present, () => fromLsn));
  if (isKept && fromLsn !== undefined) return fromLsn;
  return fail(
    "WAL_NOT_READY",
    archive.settings?.mode === WalMode.PUSH
      ? `the slot ${slot} is kept until a file is stored that archive_command hands over`
      : `the slot ${slot} keeps WAL that is not stored yet and that ${present} does not keep`,
  );
}
