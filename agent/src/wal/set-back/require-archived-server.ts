import { openLook } from "../../postgres/connect.ts";
import type { ResolvedEndpoint } from "../../postgres/endpoint.ts";
import { readArchiverState } from "../push/archiver-state.ts";
import type { HeldStorage } from "../push/held-storage.ts";
import type { WalExtent } from "../store/extent.ts";
import { listBeyond, type Listed } from "../store/list-extents.ts";
import { requireNotBehind } from "./require-not-behind.ts";

/**
 * With a machine that was set back its index was, too: asks the repository what it holds beyond the last that the index knows
 * of, and then the server, whose WAL must not end before that. Gives what was found. Fails with WAL_FOREIGN, as the storage
 * does, and as connecting.
 */
export async function requireArchivedServer(
  last: WalExtent | undefined,
  {
    storage,
    endpoint,
    listed,
  }: {
    readonly storage: HeldStorage;
    readonly endpoint: () => Promise<ResolvedEndpoint>;
    readonly listed: Listed;
  },
): Promise<WalExtent[]> {
  const beyond = last ? await storage.use((opened) => listBeyond(opened, last, listed)) : [];
  await using connection = await openLook(await endpoint(), { signal: listed.signal });
  const { timeline, insertLsn: lsn } = await readArchiverState(connection);
  requireNotBehind({ timeline, lsn }, beyond.at(-1) ?? last);
  return beyond;
}
