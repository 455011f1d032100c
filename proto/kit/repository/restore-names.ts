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
  return withSuffix(name, `_before_${time.toISOString().replace(/[-:T]|\..*/g, "")}`);
}

/** Whether a database has the name of one that was replaced and kept. */
export function isKeptDatabase(name: string): boolean {
  return /_before_20\d{12}$/.test(name);
}

/** A name to propose for what is restored beside a database: `<name>-<what>`, cut in the same way. */
export function nameCopy(name: string, what: string): string {
  return withSuffix(name, `-${what}`);
}

function withSuffix(name: string, suffix: string): string {
  let kept = "";
  for (const character of name) {
    if (Buffer.byteLength(kept + character + suffix) > nameBytes) break;
    kept += character;
  }
  return kept + suffix;
}

/** Folder in which a cluster is recovered for a while, in the folder `root` of a host. */
export function formatScratchFolder(root: string, operationId: string): string {
  return `${root === "/" ? "" : root}/coppice-${operationId}`;
}

/** Whether a path is the data directory or the socket folder of a server in such a folder: a copy that is soon gone. */
export function isInScratchFolder(path: string): boolean {
  return /\/coppice-op_[0-9a-z]+\/(data|run)$/.test(path);
}
