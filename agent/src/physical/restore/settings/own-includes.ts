import { readdir, stat } from "node:fs/promises";
import { join, posix } from "node:path";
import type { OsUser } from "../../../host/os-user.ts";
import { ignoreMissing } from "../directory/ignore-missing.ts";
import { makeOwned } from "../staging.ts";
import { readIfThere, writeOwned } from "./configuration.ts";
import { includesOf, type PlacesOfIncludes, rewriteConfiguration } from "./rewrite-configuration.ts";

/** What a server reads of a folder that is included. */
async function filesOf(data: string, folder: string, user: OsUser): Promise<string[]> {
  const path = join(data, folder);
  // A server does not start without it, and of an empty one the backup holds nothing.
  if ((await stat(path).catch(ignoreMissing)) === undefined) await makeOwned(path, user);
  const names = await readdir(path);
  return names
    .filter((name) => name.endsWith(".conf") && !name.startsWith("."))
    .map((name) => posix.join(folder, name));
}

/**
 * Rewrites the postgresql.conf of a data directory, and all that it includes there: a line in any of them could have its
 * server work in the source's directory. `placesFor` are the places for a file, which is relative to the data directory.
 */
export async function rewriteOwnFiles(
  data: string,
  { placesFor, user }: { placesFor: (file: string) => PlacesOfIncludes; user: OsUser },
): Promise<void> {
  const seen = new Set<string>();
  const files = ["postgresql.conf"];
  for (let file = files.pop(); file !== undefined; file = files.pop()) {
    const text = seen.has(file) ? undefined : await readIfThere(join(data, file));
    seen.add(file);
    if (text === undefined) continue;
    const rewritten = rewriteConfiguration(text, placesFor(file));
    if (rewritten !== text) await writeOwned(join(data, file), rewritten, user);
    for (const { path, isFolder } of includesOf(rewritten)) {
      const included = posix.join(posix.dirname(file), path);
      files.push(...(isFolder ? await filesOf(data, included, user) : [included]));
    }
  }
}
