import { create } from "@bufbuild/protobuf";
import {
  type CheckRepositoryResult,
  CheckRepositoryResultSchema,
} from "@coppice/proto/gen/coppice/agent/v1/check_repository";
import type { RepositoryTarget } from "@coppice/proto/gen/coppice/agent/v1/repository_target";
import { type CheckItem, CheckItemSchema, CheckStatus } from "@coppice/proto/gen/coppice/common/v1/check";
import { fail, type Failure, isFailure, toFailure } from "@coppice/proto/kit/failure";
import { newId } from "@coppice/proto/kit/id";
import { formatSize } from "@coppice/proto/kit/size";
import { lookUpUser } from "../host/os-user.ts";
import type { StorageAccess } from "../storage/access.ts";
import { lookIfAllowed, unseen } from "../storage/look-if-allowed.ts";
import { openStorage } from "../storage/open.ts";
import type { Storage } from "../storage/storage.ts";
import { requireClusterFile } from "./cluster-file.ts";
import { probeKey, probePrefix } from "./layout.ts";
import { readObject } from "./read-object.ts";
import { isShared, putSharedMark, requireSharedMark } from "./shared-mark.ts";

const scarceBytes = 1 << 30;

/** What is tried. */
interface Tried {
  readonly target: RepositoryTarget;
  /** Whether it is tried from its home host. */
  readonly isHome: boolean;
  /** Ids of the clusters whose backups are known to be in it. */
  readonly knownClusters: readonly string[];
}

/**
 * Tries all that a backup needs of a repository with a probe object: reachable, write, read, list, delete, space. A place
 * that is not the one with the known backups, a mount point for one, is left as it is. What does not work is an item of the result with its fix, never a failure, and what depends on it is left out; it throws
 * only the signal's reason.
 */
export async function checkRepository(
  { target, isHome, knownClusters }: Tried,
  access: StorageAccess,
): Promise<CheckRepositoryResult> {
  const { signal } = access;
  const items: CheckItem[] = [];
  let isMissed = knownClusters.length > 0;
  const look = async <T>(name: string, run: () => Promise<[string, T]>): Promise<T | undefined> => {
    try {
      const [message, value] = await run();
      items.push(create(CheckItemSchema, { name, status: CheckStatus.OK, message }));
      return value;
    } catch (error) {
      signal.throwIfAborted();
      const failure = toFailure(error);
      const { message } = failure;
      const fix = await fixFor(failure, target, { isMissed, signal });
      items.push(create(CheckItemSchema, { name, status: CheckStatus.FAILED, message, fix }));
      return undefined;
    }
  };

  const { location } = target;
  if (!location) fail("INVALID_FIELD", `repository ${target.name} has no location`);
  const opened = await look("reachable", async () => {
    const storage = await openStorage(location, access);
    return [`${storage.name} is there`, storage];
  });
  if (!opened) return create(CheckRepositoryResultSchema, { items });
  await using storage = opened;
  if (isMissed) {
    const held = await look("content", async () => [await seeContent(storage, knownClusters, signal), true]);
    if (!held) return create(CheckRepositoryResultSchema, { items });
    isMissed = false;
  }
  await probe(storage, look, signal);
  if (isShared(target)) {
    await look("shared", async () => {
      if (isHome) await putSharedMark(storage, target, signal);
      await requireSharedMark(storage, target, signal);
      return ["it is the folder that the home host has marked", true];
    });
  }
  items.push(...(await inspect(storage, signal)));
  const freeBytes = await look("space", async () => {
    const free = await storage.freeBytes(signal);
    return [free === undefined ? "the storage does not know its free space" : `${formatSize(free)} free`, free];
  });
  const item = items.at(-1);
  if (item && freeBytes !== undefined && freeBytes < scarceBytes) {
    item.status = CheckStatus.WARNING;
    item.fix = "make room in the repository, or delete backups that are not needed";
  }
  return create(CheckRepositoryResultSchema, {
    items,
    ...(freeBytes === undefined ? {} : { freeBytes: BigInt(freeBytes) }),
  });
}

const statusOf = { ok: CheckStatus.OK, warning: CheckStatus.WARNING, failed: CheckStatus.FAILED };

async function inspect(storage: Storage, signal: AbortSignal): Promise<CheckItem[]> {
  const findings = (await storage.inspect?.(probePrefix, signal)) ?? [];
  return findings.map(({ status, ...finding }) => create(CheckItemSchema, { ...finding, status: statusOf[status] }));
}

/** As backups and archives do before they write. */
async function seeContent(storage: Storage, clusters: readonly string[], signal: AbortSignal): Promise<string> {
  const looked = await lookIfAllowed(storage, async () => {
    for (const cluster of clusters) await requireClusterFile(storage, cluster, signal);
  });
  if (looked === unseen) return "this host may not look whether it holds what is known to be in it";
  return `it knows ${clusters.length === 1 ? "the cluster" : `the ${clusters.length} clusters`} whose backups are in it`;
}

type Look = <T>(name: string, run: () => Promise<[string, T]>) => Promise<T | undefined>;

async function probe(storage: Storage, look: Look, signal: AbortSignal): Promise<void> {
  // Any new id: two checks of one operation must not meet each other's object.
  const key = probeKey(newId("cmd"));
  const text = `coppice wrote this to see whether it can\n`;
  const written = await look("write", async () => {
    await storage.put(key, bytesOf(text), { signal, ifAbsent: true });
    return [`wrote ${key}`, true];
  });
  if (!written) return;
  await look("read", async () => {
    if ((await readObject(storage, key, signal)).toString("utf8") !== text) {
      fail("DIGEST_MISMATCH", `${key} reads back differently than it was written`);
    }
    return [`read ${key} back`, true];
  });
  await look("list", async () => {
    const listed = await Array.fromAsync(storage.list(probePrefix, signal));
    if (!listed.some((object) => object.key === key)) fail("OBJECT_MISSING", `${key} is not in the listing`);
    return [`found ${key} in the listing`, true];
  });
  await look("delete", async () => {
    await storage.deleteMany([key], signal);
    if (await storage.stat(key, signal)) fail("REPOSITORY_NOT_WRITABLE", `${key} is still there after its deletion`);
    return [`deleted ${key}`, true];
  });
}

async function* bytesOf(text: string): AsyncGenerator<Uint8Array, void> {
  yield Buffer.from(text, "utf8");
}

async function fixFor(
  failure: Failure,
  { location }: RepositoryTarget,
  /** isMissed: what is known to be in it was not seen there. */
  { isMissed, signal }: { readonly isMissed: boolean; readonly signal: AbortSignal },
): Promise<string> {
  const folder = location?.kind.case === "filesystem" ? location.kind.value.path : undefined;
  const { errno } = failure.metadata;
  // What the system has not refused says itself what to do: to mount what belongs there, for one.
  if (folder === undefined || errno === undefined) return failure.hint;
  const quoted = `'${folder.replaceAll("'", `'\\''`)}'`;
  if (errno === "EROFS" && !isMissed) return `mount -o remount,rw ${quoted}`;
  const isOwners = ["REPOSITORY_UNREACHABLE", "REPOSITORY_NOT_WRITABLE", "REPOSITORY_NOT_READABLE"];
  if (!isOwners.includes(failure.reason)) return failure.hint;
  // Another folder in its place would be a second repository.
  if (isMissed)
    return `mount what belongs at ${quoted}: backups are known to be in it; what is mounted has to be ${await ownName(signal)}'s`;
  return `install -d -m 0700 -o ${await ownName(signal)} ${quoted}`;
}

async function ownName(signal: AbortSignal): Promise<string> {
  const uid = process.geteuid?.() ?? 0;
  try {
    return (await lookUpUser(uid, signal)).name;
  } catch (error) {
    if (isFailure(error, "OS_USER_NOT_FOUND")) return String(uid);
    throw error;
  }
}
