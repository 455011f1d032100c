import { clone, equals, fromJson, toJson } from "@bufbuild/protobuf";
import { type ClusterFile, ClusterFileSchema } from "@coppice/proto/gen/coppice/repository/v1/cluster_file";
import { type Failure, fail, isFailure } from "@coppice/proto/kit/failure";
import type { Storage } from "../storage/storage.ts";
import { checkFeatures, parseJsonObject } from "./document.ts";
import { clusterFileKey } from "./layout.ts";
import { readObject } from "./read-object.ts";

/**
 * Brings cluster.json up to date: incarnations that only the present one knows are kept, with their times; nothing is
 * written when nothing changes. Fails with FEATURE_UNKNOWN or MANIFEST_UNREADABLE rather than replace what it cannot
 * read.
 */
export async function writeClusterFile(storage: Storage, file: ClusterFile, signal: AbortSignal): Promise<void> {
  const key = clusterFileKey(file.clusterId);
  const present = await readClusterFile(storage, file.clusterId, signal);
  const merged = clone(ClusterFileSchema, file);
  merged.formatVersion = 1;
  const known = present?.incarnations ?? [];
  merged.incarnations = [...known, ...merged.incarnations.filter((one) => !known.some((two) => isSame(one, two)))];
  if (present && equals(ClusterFileSchema, present, merged)) return;
  await storage.put(key, bodyOf(merged), { signal, ifAbsent: false });
}

/** Writes cluster.json where there is none; for who may not read the present one, and so not bring it up to date. */
export async function addClusterFile(storage: Storage, file: ClusterFile, signal: AbortSignal): Promise<void> {
  try {
    await storage.put(clusterFileKey(file.clusterId), bodyOf(file), { signal, ifAbsent: true });
  } catch (error) {
    if (!isFailure(error, "OBJECT_EXISTS")) throw error;
  }
}

async function* bodyOf(file: ClusterFile): AsyncGenerator<Uint8Array, void> {
  const json = toJson(ClusterFileSchema, file, { alwaysEmitImplicit: true });
  yield Buffer.from(`${JSON.stringify(json, null, 2)}\n`, "utf8");
}

/**
 * Refuses a place where a cluster's backups are known to be and that has never heard of it. Fails with
 * REPOSITORY_UNREACHABLE.
 */
export async function requireClusterFile(storage: Storage, clusterId: string, signal: AbortSignal): Promise<void> {
  if (await storage.stat(clusterFileKey(clusterId), signal)) return;
  refusePlace(storage, clusterId);
}

/**
 * The same of a place where backups of several clusters are known to be: one that has heard of any of them is the repository.
 * Fails with REPOSITORY_UNREACHABLE, and with REPOSITORY_NOT_READABLE where none was seen and some may not be looked for.
 */
export async function requireAnyClusterFile(
  storage: Pick<Storage, "name" | "stat">,
  clusterIds: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  let unreadable: Failure | undefined;
  for (const clusterId of clusterIds)
    try {
      if (await storage.stat(clusterFileKey(clusterId), signal)) return;
    } catch (error) {
      // One may be of an agent of another user, the next of ours.
      if (!isFailure(error, "REPOSITORY_NOT_READABLE")) throw error;
      unreadable ??= error;
    }
  if (unreadable) throw unreadable;
  const [first] = clusterIds;
  if (first !== undefined) refusePlace(storage, first);
}

/** Says that a place is not the repository, for it has never heard of that cluster. Fails with REPOSITORY_UNREACHABLE. */
export function refusePlace(storage: Pick<Storage, "name">, clusterId: string): never {
  const key = clusterFileKey(clusterId);
  return fail("REPOSITORY_UNREACHABLE", `${storage.name} is there and is not the repository: ${key} is missing`, {
    hint:
      "mount what belongs there; if its content is lost for good, say so: " +
      `mkdir -p ${clusterId} && echo '{"formatVersion": 1, "clusterId": "${clusterId}"}' > ${key}    # in that folder`,
    metadata: { key },
  });
}

type Incarnation = ClusterFile["incarnations"][number];

function isSame(one: Incarnation, two: Incarnation): boolean {
  return one.systemIdentifier === two.systemIdentifier && one.major === two.major;
}

/**
 * What a repository knows of a cluster; undefined where it has never heard of it. Fails with FEATURE_UNKNOWN or
 * MANIFEST_UNREADABLE, and as the storage does.
 */
export async function readClusterFile(
  storage: Storage,
  clusterId: string,
  signal: AbortSignal,
): Promise<ClusterFile | undefined> {
  const key = clusterFileKey(clusterId);
  let bytes: Buffer;
  try {
    bytes = await readObject(storage, key, signal);
  } catch (error) {
    if (isFailure(error, "OBJECT_MISSING")) return undefined;
    throw error;
  }
  return parseClusterFile(bytes, key);
}

/**
 * The bytes of a cluster.json, which says that it is of that cluster. Fails as readClusterFile, with OBJECT_MISSING, or
 * with MANIFEST_UNREADABLE where it is another's or nobody's.
 */
export async function fetchClusterFile(storage: Storage, clusterId: string, signal: AbortSignal): Promise<Buffer> {
  const key = clusterFileKey(clusterId);
  const bytes = await readObject(storage, key, signal);
  const file = parseClusterFile(bytes, key);
  if (file.clusterId !== clusterId) {
    const of =
      file.clusterId === "" ? "does not say which cluster it is of" : `is of ${JSON.stringify(file.clusterId)}`;
    fail("MANIFEST_UNREADABLE", `${key} ${of}; the next backup of the cluster into the repository mends it`);
  }
  return bytes;
}

function parseClusterFile(bytes: Uint8Array, key: string): ClusterFile {
  const json = parseJsonObject(bytes, key);
  checkFeatures(json, key);
  try {
    return fromJson(ClusterFileSchema, json, { ignoreUnknownFields: true });
  } catch (error) {
    return fail("MANIFEST_UNREADABLE", `${key} is not a cluster's file`, { cause: error });
  }
}
