import type { RestorePhysicalCommand } from "@coppice/proto/gen/coppice/agent/v1/restore_physical";
import type { BackupManifest } from "@coppice/proto/gen/coppice/repository/v1/manifest";
import { isFailure } from "@coppice/proto/kit/failure";
import { formatLsn, parseLsn } from "@coppice/proto/kit/wal/lsn";
import type { OsUser } from "../host/os-user.ts";
import { chooseOwner } from "../physical/restore/owner.ts";
import { readManifest } from "../repository/get.ts";
import type { Storage } from "../storage/storage.ts";
import { openReplay, type Replay } from "../wal/fetch/open-replay.ts";
import { seeWalEnd, type WalToReplay } from "../wal/fetch/see-wal-end.ts";
import type { CommandContext } from "./handler.ts";
import { required } from "./required.ts";

/** WAL that is handed out, and how far it has to lead. */
export interface CheckedReplay {
  readonly replay: Replay;
  /** Position that recovery has to reach; empty where the plan does not know. */
  readonly expectedEndLsn: string;
}

/**
 * Hands out the WAL that a command replays. `storage` is the repository of the WAL, `backups` the one of the newest backup
 * of the chain, which says whose WAL it is. Fails as seeWalEnd does, as openReplay does, or as the storages do.
 */
export async function replayFor(
  command: RestorePhysicalCommand,
  context: CommandContext,
  {
    storage,
    backups,
    isScratch,
  }: { readonly storage: Storage; readonly backups: Storage; readonly isScratch: boolean },
): Promise<CheckedReplay> {
  const { signal, workFolder, secret, log } = context;
  const newest = required(command.chain.at(-1), "chain");
  const { manifest } = await readManifest(backups, newest, signal);
  const place = { clusterId: newest.clusterId, systemIdentifier: manifest.systemIdentifier };
  const identities = secret(command.walRepository?.identitySecret ?? "");
  const expectedEndLsn = await seeEnd(command, storage, { manifest, place, identities, signal });
  const replay = await openReplay({
    storage,
    workFolder,
    user: await findOwner(command.dataDirectory, signal),
    server: { dataDirectory: command.dataDirectory, isScratch },
    wal: {
      place,
      ...(identities === undefined ? {} : { identities }),
      ...(command.walEndLsn === "" ? {} : { endLsn: parseLsn(command.walEndLsn) }),
      signal,
    },
    onServed: (name) => log(`replays ${name}`),
  });
  return { replay, expectedEndLsn };
}

/** Without one there will be no server to ask: a plan says so, and a restore is refused. */
async function findOwner(dataDirectory: string, signal: AbortSignal): Promise<OsUser | undefined> {
  try {
    return await chooseOwner(dataDirectory, signal);
  } catch (error) {
    if (!isFailure(error, "OS_USER_NOT_FOUND")) throw error;
    return undefined;
  }
}

/** Without the last of the WAL that the plan promised recovery would end early, and call that the end. */
async function seeEnd(
  { expectedEndLsn, target }: RestorePhysicalCommand,
  storage: Storage,
  { manifest, ...wal }: Pick<WalToReplay, "place" | "identities" | "signal"> & { readonly manifest: BackupManifest },
): Promise<string> {
  if (expectedEndLsn === "" || manifest.content.case !== "physical") return expectedEndLsn;
  const { startLsn, timeline, walSegmentBytes: segmentBytes } = manifest.content.value;
  const end = await seeWalEnd(storage, {
    ...wal,
    segmentBytes,
    startLsn: parseLsn(startLsn),
    timelines: { first: timeline, last: Math.max(timeline, target?.timeline ?? 0) },
    endLsn: parseLsn(expectedEndLsn),
    isToEnd: target?.point.case === undefined,
  });
  return formatLsn(end);
}
