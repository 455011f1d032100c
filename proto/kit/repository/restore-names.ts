/** Longest name of a database, in bytes. */
const nameBytes = 63;

/** Name of the database that a restore works in until it is compared. */
export function formatStagedDatabase(operationId: string): string {
  return `coppice_restore_${operationId.replace(/^op_/, "")}`;
}

/**
 * Name under which a replaced database is kept: `<name>_before_<UTC stamp>`, its name cut between two characters so
 * that all of it fits.
 */
export function formatKeptDatabase(name: string, time: Date): string {
  const suffix = `_before_${time.toISOString().replace(/[-:T]|\..*/g, "")}`;
  let kept = "";
  for (const character of name) {
    if (Buffer.byteLength(kept + character + suffix) > nameBytes) break;
    kept += character;
  }
  return kept + suffix;
}
