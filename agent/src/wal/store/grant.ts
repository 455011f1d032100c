import { Readable } from "node:stream";
import type { WalArchive } from "@coppice/proto/gen/coppice/agent/v1/wal_archive";
import { fail, isFailure } from "@coppice/proto/kit/failure";
import { parseWalGrant, walGrantKey, walGrantPrefix } from "../../repository/layout.ts";
import type { Storage } from "../../storage/storage.ts";
import type { HeldStorage } from "../push/held-storage.ts";

/** What lets an agent write WAL of a server into a repository, held against what lies there. */
export interface GrantCheck {
  /**
   * Refuses when a later grant lies there, and puts its own where none does. What was looked at a moment ago is not looked
   * at again; who may not read the repository sees none. Fails with WAL_NOT_GRANTED, and as the storage does.
   */
  require(storage: Storage, signal: AbortSignal): Promise<void>;
}

const usualMs = 10_000;

/**
 * Opens one for an archive, that looks again after `everyMs`. An agent that was declared dead may come back with its old
 * grant, and with nobody to tell it: the repository does.
 */
export function openGrantCheck(
  archive: Pick<WalArchive, "clusterId" | "systemIdentifier" | "grant">,
  everyMs = usualMs,
): GrantCheck {
  const number = archive.grant?.number ?? 0n;
  let lookedMs = -Infinity;
  let isPut = false;
  let looking: Promise<void> | undefined;
  async function look(storage: Storage, signal: AbortSignal): Promise<void> {
    const newest = await newestGrant(storage, archive, signal);
    if (newest > number)
      fail(
        "WAL_NOT_GRANTED",
        `another agent owns this WAL since: ${storage.name} holds a later grant than this one's`,
        {
          hint: `see who owns it: coppice wal status CLUSTER; a server that is a copy of that one is protected as a cluster of its own: coppice cluster add; when this host owns it, that grant was given by a clock that was ahead, or by a catalog that is gone: delete ${walGrantKey(archive, newest)}, and coppice wal setup again; nothing was written`,
          metadata: { systemIdentifier: archive.systemIdentifier },
        },
      );
    if (newest < number && !isPut) await putGrant(storage, walGrantKey(archive, number), signal);
    isPut = true;
    lookedMs = performance.now();
  }
  return {
    async require(storage, signal) {
      if (performance.now() - lookedMs < everyMs) return;
      // Several segments are stored at once.
      looking ??= look(storage, signal).finally(() => (looking = undefined));
      await looking;
    },
  };
}

/** A storage that is used only as long as the grant holds. */
export function guardStorage(
  { use }: Pick<HeldStorage, "use">,
  grant: GrantCheck,
  signal: AbortSignal,
): Pick<HeldStorage, "use"> {
  return {
    use: (work) =>
      use(async (storage) => {
        await grant.require(storage, signal);
        return await work(storage);
      }),
  };
}

/**
 * Refuses a server that is on an older timeline than the archive had come to when it was granted: a promotion went by it,
 * and it would be taken for the one that was promoted. Fails with WAL_NOT_GRANTED.
 */
export function requireGrantedTimeline({ grant }: Pick<WalArchive, "grant">, timeline: number): void {
  if (grant === undefined || timeline >= grant.firstTimeline) return;
  const from = `timelines from ${grant.firstTimeline} on`;
  fail("WAL_NOT_GRANTED", `the server is on timeline ${timeline}, and this agent may archive ${from}`, {
    hint: "name the server that was promoted: coppice cluster update CLUSTER --endpoint …, or, of several, coppice cluster check CLUSTER and then wal setup CLUSTER; or archive this one into another repository, coppice wal setup CLUSTER --to REPOSITORY, and take a full backup there",
  });
}

/** Number of the latest grant that lies there; 0 where none does, or who asks may not read. Fails as the storage does. */
export async function newestGrant(
  storage: Storage,
  place: Pick<WalArchive, "clusterId" | "systemIdentifier">,
  signal: AbortSignal,
): Promise<bigint> {
  let newest = 0n;
  try {
    for await (const { key } of storage.list(walGrantPrefix(place), signal)) {
      const number = parseWalGrant(key) ?? 0n;
      if (number > newest) newest = number;
    }
  } catch (error) {
    if (!isFailure(error, "REPOSITORY_NOT_READABLE")) throw error;
  }
  return newest;
}

async function putGrant(storage: Storage, key: string, signal: AbortSignal): Promise<void> {
  try {
    await storage.put(key, Readable.from([]), { signal, ifAbsent: true });
  } catch (error) {
    if (!isFailure(error, "OBJECT_EXISTS")) throw error;
  }
}
