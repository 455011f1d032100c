import { fail } from "@coppice/proto/kit/failure";
import type { RepositoryRow } from "../catalog/repository.ts";

/** A host, as messages name it. */
export interface NamedHost {
  readonly id: string;
  readonly name: string;
}

/** Whether the host's agent reaches the repository: a folder that is not shared, that of its home host alone. */
export function isReachable({ homeHostId, locationKey }: RepositoryRow, hostId: string): boolean {
  return homeHostId === null || homeHostId === hostId || locationKey.startsWith("filesystem:shared:");
}

/**
 * The only repository that the host can reach; of several the first that is usual, else the only one whose last trial did
 * not fail. Errors:
 * REPOSITORY_AMBIGUOUS, which lists them when that leaves several or none, and says how to add one when none is in reach.
 */
export function chooseRepository(
  repositories: readonly RepositoryRow[],
  host: NamedHost,
  usual: readonly string[] = [],
): RepositoryRow {
  const reachable = repositories.filter((repository) => isReachable(repository, host.id));
  const [only, ...others] = reachable;
  if (only === undefined) {
    return fail("REPOSITORY_AMBIGUOUS", `no repository can be reached from host ${host.name}`, {
      hint: `add one: coppice repo add NAME ${host.name}:/path`,
    });
  }
  if (others.length === 0) return only;
  const used = usual.flatMap((id) => reachable.find((repository) => repository.id === id) ?? []);
  if (used[0]) return used[0];
  const [usable, ...furtherUsable] = reachable.filter((repository) => repository.reachable !== false);
  if (usable !== undefined && furtherUsable.length === 0) return usable;
  const names = reachable.map(({ name }) => name).join(", ");
  return fail("REPOSITORY_AMBIGUOUS", `host ${host.name} can reach several repositories: ${names}`, {
    hint: `name one of them: --to ${(usable ?? only).name}`,
    metadata: { repositories: names },
  });
}

/** Refuses a repository that the host cannot reach; `hint` says what to do instead. Errors: REPOSITORY_WRONG_HOST. */
export function requireReachable(
  repository: RepositoryRow,
  home: NamedHost | undefined,
  host: NamedHost,
  hint = `use a repository that ${host.name} reaches, such as a folder of its own: coppice repo add NAME ${host.name}:/path`,
): void {
  if (isReachable(repository, host.id)) return;
  const homeName = home?.name ?? repository.homeHostId ?? "another host";
  fail("REPOSITORY_WRONG_HOST", `repository ${repository.name} is a folder of host ${homeName}, not of ${host.name}`, {
    hint,
    metadata: { repository: repository.name, home_host: homeName, host: host.name },
  });
}
