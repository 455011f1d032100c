import { fail } from "@coppice/proto/kit/failure";
import type { Extent } from "@coppice/proto/kit/recovery/extents";
import type { Database } from "../../catalog/catalog.ts";
import { listRepositories, type RepositoryRow } from "../../catalog/repository.ts";
import { requireRepository } from "../../inventory/require.ts";

/**
 * The repository that holds WAL of a cluster: the one that is named, or the only one. Errors: REPOSITORY_NOT_FOUND,
 * WAL_NOT_ARCHIVED, REPOSITORY_AMBIGUOUS with the flag that names one.
 */
export async function chooseArchive(
  db: Database,
  reference: string,
  of: { readonly extents: readonly Extent[]; readonly clusterName: string; readonly flag: string },
): Promise<RepositoryRow> {
  const { extents, clusterName, flag } = of;
  const held = new Set(extents.map(({ repository }) => repository));
  if (reference !== "") {
    const named = await requireRepository(db, reference);
    if (held.has(named.id)) return named;
    return fail("WAL_NOT_ARCHIVED", `repository ${named.name} holds no WAL of cluster ${clusterName}`);
  }
  const [only, ...others] = (await listRepositories(db)).filter(({ id }) => held.has(id));
  if (only === undefined) return fail("REPOSITORY_NOT_FOUND", `the repository of the WAL of ${clusterName} is gone`);
  if (others.length === 0) return only;
  const names = [only, ...others].map(({ name }) => name).join(", ");
  return fail("REPOSITORY_AMBIGUOUS", `WAL of cluster ${clusterName} is in several repositories: ${names}`, {
    hint: `name one of them: ${flag} ${only.name}`,
    metadata: { repositories: names },
  });
}
