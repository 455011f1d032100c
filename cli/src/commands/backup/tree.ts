import type { Backup } from "@coppice/proto/gen/coppice/control/v1/backup";

/** A backup and how far below the first of its chain it stands. */
export interface TreeRow {
  readonly backup: Backup;
  readonly depth: number;
}

/**
 * Backups in the order in which they are shown: as they came, and below each those that need it. One whose parent is not
 * among them stands alone.
 */
export function backupTree(backups: readonly Backup[]): TreeRow[] {
  const known = new Set(backups.map(({ id }) => id));
  const childrenOf = Map.groupBy(backups, ({ parent }) => (known.has(parent) ? parent : ""));
  const rows: TreeRow[] = [];
  // A chain may be of any length, so it is walked without recursion; the last of the list is the next one shown.
  const open = (childrenOf.get("") ?? []).map((backup) => ({ backup, depth: 0 })).reverse();
  for (let row = open.pop(); row; row = open.pop()) {
    rows.push(row);
    const { id } = row.backup;
    const depth = row.depth + 1;
    // What needs it is younger: the oldest comes first, so that a chain reads downwards.
    open.push(...(childrenOf.get(id) ?? []).map((backup) => ({ backup, depth })));
  }
  return rows;
}
