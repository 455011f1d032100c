import { toFailure } from "@coppice/proto/kit/failure";
import { sleep } from "@coppice/proto/kit/sleep";
import { parseLsn } from "@coppice/proto/kit/wal/lsn";
import type { Logger } from "pino";
import { openLook, type PostgresConnection } from "../../postgres/connect.ts";
import { resolveEndpoint } from "../../postgres/endpoint.ts";
import type { ArchiveOptions } from "../receive/archive.ts";
import { slotOf } from "../receive/slot-name.ts";
import { isOwnCommand, releaseCommand } from "./archive-command.ts";
import { readArchiverState } from "./archiver-state.ts";
import { pushSocketPath } from "./push-socket.ts";

const everyMs = 1000;

/** What is released when. */
export interface ReleaseOptions {
  readonly socketFolder: string;
  /** From where on the stream needs the server's WAL; undefined while it receives none. */
  readonly heldFrom: () => bigint | undefined;
  readonly log: Logger;
}

/**
 * Has a server that archived by its archive_command do so no more, once the stream that took over holds by its slot what
 * is not archived: until then that stays in pg_wal. What fails is tried again until the signal aborts.
 */
export async function releaseAfterStream(
  { archive, secret, clientFiles, signal }: Pick<ArchiveOptions, "archive" | "secret" | "clientFiles" | "signal">,
  { socketFolder, heldFrom, log }: ReleaseOptions,
): Promise<void> {
  const socket = pushSocketPath(socketFolder);
  while (!signal.aborted) {
    try {
      const password = secret(archive.connection?.passwordSecret ?? "");
      const endpoint = await resolveEndpoint(archive.connection?.endpoint, password, clientFiles);
      await using connection = await openLook(endpoint, { signal });
      for (;;) {
        const state = await readArchiverState(connection);
        if (state.systemIdentifier !== archive.systemIdentifier || !isOwnCommand(state.command, socket)) return;
        if (await isStreamed(connection, slotOf(archive), heldFrom)) {
          await releaseCommand(connection, state, socket);
          log.info({ cluster: archive.clusterName }, "the server's archive_command hands out no WAL any more");
          return;
        }
        await sleep(everyMs, signal);
      }
    } catch (error) {
      if (signal.aborted) return;
      log.debug({ reason: toFailure(error).reason }, "archive_command was not looked at");
    }
    await sleep(10 * everyMs, signal).catch(() => undefined);
  }
}

/** Whether the slot keeps everything that is not stored: while it is new it begins behind what waits in pg_wal. */
export async function isStreamed(
  connection: PostgresConnection,
  slot: string,
  heldFrom: () => bigint | undefined,
): Promise<boolean> {
  const text = "select restart_lsn::text as lsn from pg_replication_slots where slot_name = $1 and active";
  const [held] = await connection.query<{ lsn: string | null }>(text, [slot]);
  const fromLsn = heldFrom();
  return typeof held?.lsn === "string" && fromLsn !== undefined && parseLsn(held.lsn) <= fromLsn;
}
