import { fail } from "@coppice/proto/kit/failure";
import type { Database } from "../../catalog/catalog.ts";
import { listPhysicalCopies, type PhysicalCopy } from "../../catalog/physical/copies.ts";

/**
 * The backup that an incremental builds on: the one that is named, or the newest of the server in the repository whose
 * whole chain is there undamaged; undefined where there is none, and it becomes a full. Errors: BACKUP_NOT_FOUND,
 * INCREMENTAL_REFUSED for one that is named.
 */
export async function chooseParent(
  db: Database,
  {
    cluster,
    systemIdentifier,
    repository,
    backupId,
  }: {
    readonly cluster: { readonly id: string; readonly name: string };
    readonly systemIdentifier: string;
    readonly repository: { readonly id: string; readonly name: string };
    /** Empty: any. */
    readonly backupId: string;
  },
): Promise<string | undefined> {
  const copies = await listPhysicalCopies(db, cluster.id);
  const there = copies.filter(({ repositoryId }) => repositoryId === repository.id);
  const byId = new Map(there.map((copy) => [copy.id, copy]));
  const hint = `take a full one: coppice backup create ${cluster.name} --kind full`;
  if (backupId !== "") {
    const named = byId.get(backupId);
    if (named === undefined) {
      return fail(
        "BACKUP_NOT_FOUND",
        `${backupId} is no physical backup of cluster ${cluster.name} in repository ${repository.name}`,
      );
    }
    const problem = parentProblem(named, byId, systemIdentifier);
    return problem === undefined ? backupId : fail("INCREMENTAL_REFUSED", `${backupId}: ${problem}`, { hint });
  }
  return there.findLast((copy) => parentProblem(copy, byId, systemIdentifier) === undefined)?.id;
}

/** Why nothing can build on a copy; undefined where that can be. */
function parentProblem(
  copy: PhysicalCopy,
  byId: ReadonlyMap<string, PhysicalCopy>,
  systemIdentifier: string,
): string | undefined {
  if (copy.systemIdentifier !== systemIdentifier) return "it is of another server";
  const seen = new Set<string>();
  for (let current: PhysicalCopy | undefined = copy; ; current = byId.get(current.parentId ?? "")) {
    if (current === undefined || seen.has(current.id)) return "what it builds on is not in the repository";
    seen.add(current.id);
    if (!current.complete) return `${current.id} is not complete`;
    if (current.state !== "STORED") return `${current.id} is ${current.state.toLowerCase()}`;
    if (current.isWalIncrement) return `${current.id} is a WAL increment and holds no blocks`;
    if (current.parentId === null) return undefined;
  }
}
