import { fail } from "@coppice/proto/kit/failure";
import type { Database } from "../../catalog/catalog.ts";
import { listPhysicalCopies, type PhysicalCopy } from "../../catalog/physical/copies.ts";
import { walGapAfter } from "./wal-gap.ts";

/** What an incremental builds on, and why it becomes a full all the same; empty where nothing is known against it. */
export interface Parent {
  readonly id: string | undefined;
  readonly fullReason: string;
}

/**
 * The backup that an incremental builds on: the one that is named, or the newest of the server in the repository whose
 * whole chain is there undamaged; none where there is none, and it becomes a full, or where WAL after it is missing that
 * an increment of WAL would need. Errors: BACKUP_NOT_FOUND, INCREMENTAL_REFUSED for one that is named.
 */
export async function chooseParent(
  db: Database,
  {
    cluster,
    systemIdentifier,
    repository,
    backupId,
    isByWal,
  }: {
    readonly cluster: { readonly id: string; readonly name: string };
    readonly systemIdentifier: string;
    readonly repository: { readonly id: string; readonly name: string };
    /** Empty: any. */
    readonly backupId: string;
    /** Whether it is a WAL increment, which any kind of backup can go on with. */
    readonly isByWal: boolean;
  },
): Promise<Parent> {
  const copies = await listPhysicalCopies(db, cluster.id);
  const there = copies.filter(({ repositoryId }) => repositoryId === repository.id);
  const byId = new Map(there.map((copy) => [copy.id, copy]));
  const hint = `take a full one: coppice backup create ${cluster.name} --kind full`;
  const problemOf = (copy: PhysicalCopy) => parentProblem(copy, byId, { systemIdentifier, isByWal });
  let parent: PhysicalCopy | undefined;
  if (backupId !== "") {
    parent = byId.get(backupId);
    if (parent === undefined) {
      return fail(
        "BACKUP_NOT_FOUND",
        `${backupId} is no physical backup of cluster ${cluster.name} in repository ${repository.name}`,
      );
    }
    const problem = problemOf(parent);
    if (problem !== undefined) fail("INCREMENTAL_REFUSED", `${backupId}: ${problem}`, { hint });
  } else parent = there.findLast((copy) => problemOf(copy) === undefined);
  if (parent === undefined) return { id: undefined, fullReason: "" };
  const gap = isByWal ? await walGapAfter(db, { clusterId: cluster.id, parent, copies }) : undefined;
  return gap === undefined ? { id: parent.id, fullReason: "" } : { id: undefined, fullReason: gap };
}

/** Why nothing can build on a copy; undefined where that can be. */
function parentProblem(
  copy: PhysicalCopy,
  byId: ReadonlyMap<string, PhysicalCopy>,
  { systemIdentifier, isByWal }: { readonly systemIdentifier: string; readonly isByWal: boolean },
): string | undefined {
  if (copy.systemIdentifier !== systemIdentifier) return "it is of another server";
  const seen = new Set<string>();
  for (let current: PhysicalCopy | undefined = copy; ; current = byId.get(current.parentId ?? "")) {
    if (current === undefined || seen.has(current.id)) return "what it builds on is not in the repository";
    seen.add(current.id);
    if (!current.complete) return `${current.id} is not complete`;
    if (current.state !== "STORED") return `${current.id} is ${current.state.toLowerCase()}`;
    if (current.isWalIncrement && !isByWal) return `${current.id} is a WAL increment and holds no blocks`;
    if (current.parentId === null) return undefined;
  }
}
