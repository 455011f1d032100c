import { inArray, sql } from "drizzle-orm";
import type { Database } from "../catalog.ts";
import { backup, backupCopy, type CopyStateName } from "../schema/backup.ts";

/** A copy of a backup that something is wrong with that it builds on. */
export interface BrokenChain {
  readonly backupId: string;
  readonly repositoryId: string;
  /** What, with the id of the backup that it lies in. */
  readonly problem: string;
}

interface Link extends Record<string, unknown> {
  readonly id: string;
  readonly repositoryId: string;
  readonly parentId: string | null;
  /** Null where the repository holds none. */
  readonly state: CopyStateName | null;
}

const stateProblem: Readonly<Record<CopyStateName, string | undefined>> = {
  STORED: undefined,
  DAMAGED: "is damaged",
  DELETING: "is being deleted",
};

/** Those of the given backups' copies from which nothing can be restored because of what they build on. */
export async function listBrokenChains(
  db: Database,
  backups: readonly { readonly id: string; readonly parentId: string | null }[],
): Promise<BrokenChain[]> {
  const children = backups.filter(({ parentId }) => parentId !== null).map(({ id }) => id);
  if (children.length === 0) return [];
  const given = db
    .select({ id: backupCopy.backupId, repositoryId: backupCopy.repositoryId })
    .from(backupCopy)
    .where(inArray(backupCopy.backupId, children));
  // What several of them build on is walked through once.
  const links = await db.execute<Link>(sql`
    with recursive chain (id, repository_id) as (
      ${given}
      union
      select b.parent_id, chain.repository_id from chain join ${backup} b on b.id = chain.id where b.parent_id is not null
    )
    select chain.id, chain.repository_id as "repositoryId", b.parent_id as "parentId", c.state
    from chain join ${backup} b on b.id = chain.id
    left join ${backupCopy} c on c.backup_id = chain.id and c.repository_id = chain.repository_id`);
  const byPlace = new Map(links.map((link) => [`${link.id} ${link.repositoryId}`, link]));
  const wanted = new Set(children);
  return links.flatMap(({ id: backupId, repositoryId, parentId }) => {
    if (!wanted.has(backupId)) return [];
    for (let id = parentId; id !== null;) {
      const link = byPlace.get(`${id} ${repositoryId}`);
      const problem = link?.state ? stateProblem[link.state] : "is not in that repository";
      if (problem !== undefined) return [{ backupId, repositoryId, problem: `${id}, which it builds on, ${problem}` }];
      id = link?.parentId ?? null;
    }
    return [];
  });
}
