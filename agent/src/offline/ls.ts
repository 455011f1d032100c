import { type ArchivedWal, findArchivedWal } from "./archived-wal.ts";
import { readRepository } from "./catalog.ts";
import { formatRepository, repositoryJson } from "./listing.ts";
import { openPlace, type PlaceOptions } from "./place/place.ts";

const notFound = 3;

/**
 * Prints what a repository holds, as its format says; fails where it cannot be listed. Gives the exit code, which
 * is not 0 where there is no cluster.
 */
export async function listRepository(
  options: PlaceOptions & { readonly output: "table" | "json" },
  signal: AbortSignal,
): Promise<number> {
  await using storage = await openPlace(options, signal);
  const repository = await readRepository(storage, signal);
  const wal = new Map<string, ArchivedWal[]>();
  for (const cluster of repository.clusters) wal.set(cluster.id, await findArchivedWal(storage, cluster, signal));
  const isJson = options.output === "json";
  process.stdout.write(
    isJson ? `${JSON.stringify(repositoryJson(repository, wal), null, 2)}\n` : formatRepository(repository, wal),
  );
  return repository.clusters.length === 0 ? notFound : 0;
}
