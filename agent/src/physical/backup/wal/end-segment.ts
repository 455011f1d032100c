import { isFailure } from "@coppice/proto/kit/failure";
import { parseLsn } from "@coppice/proto/kit/wal/lsn";
import { segmentStart } from "@coppice/proto/kit/wal/segment";
import { openConnection } from "../../../postgres/connect.ts";
import { hasSqlState } from "../../../postgres/postgres-failure.ts";
import type { PreparedBackup } from "../prepare-backup.ts";

interface Position {
  readonly in_recovery: boolean;
  readonly lsn: string | null;
}

const position = `select pg_is_in_recovery() as in_recovery,
  case when pg_is_in_recovery() then null else pg_current_wal_insert_lsn()::text end as lsn`;

/**
 * Has a primary end the segment before the position, so that it is stored at once; the end of BASE_BACKUP has mostly done
 * it. False where nobody here can: the server is a standby, or the role may not. Fails as connections do.
 */
export async function endSegment(
  { endpoint, server: { walSegmentBytes }, request: { signal, log } }: PreparedBackup,
  stopLsn: bigint,
): Promise<boolean> {
  await using connection = await openConnection(endpoint, { signal });
  const { in_recovery, lsn } = await connection.queryOne<Position>(position);
  if (in_recovery || lsn === null) return false;
  if (parseLsn(lsn) >= segmentStart(stopLsn - 1n, walSegmentBytes) + walSegmentBytes) return true;
  try {
    await connection.query("select pg_switch_wal()");
    return true;
  } catch (error) {
    if (!isFailure(error) || !hasSqlState(error, "privilege")) throw error;
    log(`the role may not end a segment of WAL, which is stored when it is full or old enough: ${error.message}`);
    return false;
  }
}
