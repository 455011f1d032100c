import { readRepository } from "./catalog.ts";
import { formatRepository, repositoryJson } from "./listing.ts";
import { openPlace, type PlaceOptions } from "./place/place.ts";

/** Prints what a repository holds, as its format says; fails where it cannot be listed. Gives the exit code. */
export async function listRepository(
  options: PlaceOptions & { readonly output: "table" | "json" },
  signal: AbortSignal,
): Promise<number> {
  await using storage = await openPlace(options, signal);
  const repository = await readRepository(storage, signal);
  const isJson = options.output === "json";
  process.stdout.write(
    isJson ? `${JSON.stringify(repositoryJson(repository), null, 2)}\n` : formatRepository(repository),
  );
  return 0;
}
