import type { RestorePhysicalCommand } from "@coppice/proto/gen/coppice/agent/v1/restore_physical";
import type { BackupManifest } from "@coppice/proto/gen/coppice/repository/v1/manifest";
import { parseLsn } from "@coppice/proto/kit/wal/lsn";
import { readManifest } from "../repository/get.ts";
import type { WalPlace } from "../repository/layout.ts";
import type { Storage } from "../storage/storage.ts";
import { openReplay, type Replay } from "../wal/fetch/open-replay.ts";
import { requireWal } from "../wal/fetch/require-wal.ts";
import type { CommandContext } from "./handler.ts";
import { required } from "./required.ts";

/** So much before the end that was promised is looked for beforehand: what lacks more than that is seen by where recovery ends. */
const lookedForBytes = 32n << 20n;

/**
 * Hands out the WAL that a command replays. `storage` is the repository of the WAL, `backups` the one of the newest backup
 * of the chain, which says whose WAL it is. Fails with WAL_MISSING where the end that the plan promised is not archived any
 * more, as openReplay does, or as the storages do.
 */
export async function replayFor(
  command: RestorePhysicalCommand,
  context: CommandContext,
  { storage, backups }: { readonly storage: Storage; readonly backups: Storage },
): Promise<Replay> {
  const { signal, workFolder, secret, log } = context;
  const newest = required(command.chain.at(-1), "chain");
  const { manifest } = await readManifest(backups, newest, signal);
  const place = { clusterId: newest.clusterId, systemIdentifier: manifest.systemIdentifier };
  await requireEnd(command, { storage, manifest, place, signal });
  const identities = secret(command.walRepository?.identitySecret ?? "");
  return await openReplay({
    storage,
    workFolder,
    wal: {
      place,
      ...(identities === undefined ? {} : { identities }),
      ...(command.walEndLsn === "" ? {} : { endLsn: parseLsn(command.walEndLsn) }),
      signal,
    },
    onServed: (name) => log(`replays ${name}`),
  });
}

/** The last of the WAL that the plan promised is looked for: without it recovery would end early, and call that the end. */
async function requireEnd(
  { expectedEndLsn, target }: RestorePhysicalCommand,
  {
    storage,
    manifest,
    place,
    signal,
  }: {
    readonly storage: Storage;
    readonly manifest: BackupManifest;
    readonly place: WalPlace;
    readonly signal: AbortSignal;
  },
): Promise<void> {
  if (expectedEndLsn === "" || manifest.content.case !== "physical") return;
  const { startLsn, timeline, walSegmentBytes: segmentBytes } = manifest.content.value;
  const endLsn = parseLsn(expectedEndLsn);
  const [beginLsn, nearLsn] = [parseLsn(startLsn), endLsn - lookedForBytes];
  const last = Math.max(timeline, target?.timeline ?? 0);
  const timelines = Array.from({ length: last - timeline + 1 }, (_, index) => last - index);
  const fromLsn = nearLsn > beginLsn ? nearLsn : beginLsn;
  await requireWal(storage, { place, fromLsn, endLsn, segmentBytes, timelines, signal });
}
