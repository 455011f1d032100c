import { parseLsn } from "@coppice/proto/kit/wal/lsn";
import { segmentStart } from "@coppice/proto/kit/wal/segment";
import type { PostgresConnection } from "../connect.ts";

/** A segment that a server is to end, so that it can be archived. */
export interface WantedSegment {
  readonly systemIdentifier: string;
  readonly timeline: number;
  /** The byte before it lies in the segment. */
  readonly endLsn: bigint;
}

/** What the server has made of it: only "switched" has changed anything. */
export type SegmentEnd =
  /** It has ended the segment now. */
  | "switched"
  /** It had ended it before. */
  | "past"
  /** It is in recovery, and ends none. */
  | "standby"
  /** It is another one, on another timeline, or not that far. */
  | "elsewhere";

interface Position {
  readonly in_recovery: boolean;
  readonly system_identifier: string;
  readonly segment_bytes: string;
  readonly lsn: string | null;
  readonly timeline: number | null;
}

const position = `select in_recovery, lsn::text as lsn,
    ('x' || substr(pg_walfile_name(lsn), 1, 8))::bit(32)::int as timeline,
    (select system_identifier::text from pg_control_system()) as system_identifier,
    (select setting from pg_settings where name = 'wal_segment_size') as segment_bytes
  from (select pg_is_in_recovery() as in_recovery,
    case when not pg_is_in_recovery() then pg_current_wal_insert_lsn() end as lsn) as now`;

/** Has a primary end the segment, where that is the one it writes into. Fails like a query. */
export async function endSegment(connection: PostgresConnection, wanted: WantedSegment): Promise<SegmentEnd> {
  const now = await connection.queryOne<Position>(position);
  if (now.system_identifier !== wanted.systemIdentifier) return "elsewhere";
  if (now.in_recovery || now.lsn === null) return "standby";
  const lsn = parseLsn(now.lsn);
  if (now.timeline !== wanted.timeline || lsn < wanted.endLsn) return "elsewhere";
  const segmentBytes = BigInt(now.segment_bytes);
  if (segmentStart(lsn, segmentBytes) > segmentStart(wanted.endLsn - 1n, segmentBytes)) return "past";
  await connection.query("select pg_switch_wal()");
  return "switched";
}
