import { formatLsn } from "@coppice/proto/kit/wal/lsn";

/** A transaction as its client saw it, noted outside the database. Times are microseconds since 1970. */
export interface Entry {
  readonly id: number;
  readonly client: number;
  /** COMMIT was sent then or later. */
  readonly sentUs: number;
  /** Its record begins there or later. */
  readonly sentLsn: bigint;
  /** COMMIT was acknowledged then or earlier; undefined of one whose outcome the client never learned. */
  ackedUs: number | undefined;
  /** Its record ends there or earlier. */
  ackedLsn: bigint | undefined;
}

/** Where recovery was to end, inclusive. */
export type LedgerTarget = { readonly timeUs: number } | { readonly lsn: bigint };

/** What is wrong with what was restored; nothing when the target was kept to the transaction. */
export function judge(entries: readonly Entry[], restored: ReadonlySet<number>, target: LedgerTarget): string[] {
  const of = describe(target);
  const wrong: string[] = [];
  const known = new Set<number>();
  for (const entry of entries) {
    const { id, client, ackedUs } = entry;
    known.add(id);
    const what = `transaction ${id} of client ${client}`;
    if (isBefore(entry, target) && !restored.has(id))
      wrong.push(`${what}, acknowledged at ${ackedUs}, is lost at ${of}`);
    if (isAfter(entry, target) && restored.has(id)) wrong.push(`${what}, sent at ${entry.sentUs}, is there at ${of}`);
  }
  for (const id of restored) if (!known.has(id)) wrong.push(`transaction ${id} is there at ${of}, and nobody sent it`);
  return wrong;
}

function isBefore({ ackedUs, ackedLsn }: Entry, target: LedgerTarget): boolean {
  if ("timeUs" in target) return ackedUs !== undefined && ackedUs <= target.timeUs;
  return ackedLsn !== undefined && ackedLsn <= target.lsn;
}

function isAfter({ sentUs, sentLsn }: Entry, target: LedgerTarget): boolean {
  // The first record that begins at the position is still replayed.
  return "timeUs" in target ? sentUs > target.timeUs : sentLsn > target.lsn;
}

/** A target as it is printed: a time in microseconds since 1970, or a position. */
export function describe(target: LedgerTarget): string {
  return "timeUs" in target ? `time ${target.timeUs}` : `LSN ${formatLsn(target.lsn)}`;
}
