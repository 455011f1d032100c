import { join } from "node:path";
import { listContent, type Marker } from "../staging.ts";
import { isAsMoved } from "./ownership.ts";

/** What a server makes in its data directory beside what is in a backup of one, at most. */
const madeByServer: ReadonlySet<string> = new Set([
  "backup_label.old",
  "current_logfiles",
  "log",
  "postmaster.opts",
  "postmaster.pid",
  "promote",
  "restore.log",
  "tablespace_map.old",
]);

/** End of the name that a file has until it takes the place of another: by the agent and by the server. */
const halfWritten = /\.(coppice-new|new|tmp)$/;

/**
 * Names of what is the restore's in a data directory that holds its token. Where its entries came one by one others may
 * have put something between them: until its server was started the restore's are those that it has moved, known by their
 * inodes; after that server and agent have written files anew, and the server has made its own.
 */
export async function ownContent({ dataDirectory, placement, entries, wasStarted }: Marker): Promise<string[]> {
  const names = await listContent(dataDirectory);
  if (placement === "whole") return names;
  const moved = new Map(entries.map((entry) => [entry.path, entry]));
  const own: string[] = [];
  for (const name of names) {
    const entry = moved.get(join(dataDirectory, name));
    const last = name.replace(halfWritten, "");
    const isWritten = moved.has(join(dataDirectory, last)) || madeByServer.has(last);
    if (wasStarted ? isWritten : entry && (await isAsMoved(entry))) own.push(name);
  }
  return own;
}

/** What is left in a data directory that the restore has left again, for people; it is others'. */
export async function nameOthers({ dataDirectory }: Marker): Promise<string[]> {
  const names = await listContent(dataDirectory);
  const some = names.slice(0, 5).join(", ");
  return names.length === 0 ? [] : [`${some} in ${dataDirectory}: the restore does not know it as its own`];
}
