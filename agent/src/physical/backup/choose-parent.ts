import { createHash } from "node:crypto";
import type { ClusterFacts } from "@coppice/proto/gen/coppice/agent/v1/check_cluster";
import type { BackupAddress } from "@coppice/proto/gen/coppice/agent/v1/repository_target";
import type { PhysicalContent } from "@coppice/proto/gen/coppice/repository/v1/physical_content";
import type { StoredStream } from "@coppice/proto/gen/coppice/repository/v1/stored_object";
import { Failure, isFailure } from "@coppice/proto/kit/failure";
import { openChain } from "../../host/chain.ts";
import type { Program } from "../../host/program.ts";
import { matchIdentities } from "../../pipeline/age-identity.ts";
import { decodePrograms } from "../../pipeline/stages.ts";
import { majorOf } from "../../postgres/majors.ts";
import { openStoredStream, readManifest } from "../../repository/get.ts";
import { backupPrefix } from "../../repository/layout.ts";
import type { Storage } from "../../storage/storage.ts";
import type { ServerFacts } from "./server-facts.ts";

/** The backup that an incremental is asked to build on. */
export interface ParentRequest {
  readonly address: BackupAddress;
  readonly storage: Storage;
  /** An identity file, for a parent that is encrypted, where this host has one. */
  readonly identities: string | undefined;
}

/** A backup that an incremental can build on, as far as this side can tell. */
export interface IncrementalParent {
  readonly backupId: string;
  readonly folder: string;
  /** The bytes of its backup_manifest; fails with INCREMENTAL_REFUSED when they are other ones than were stored. */
  readonly backupManifest: () => AsyncIterable<Uint8Array>;
}

/** The parent, or why a full backup is taken instead, for people. */
export type ChosenParent =
  | { readonly parent: IncrementalParent }
  | { readonly parent?: undefined; readonly fullReason: string };

function differences(
  content: PhysicalContent,
  { server, timeline }: { server: ServerFacts; timeline: number },
): string | undefined {
  if (content.timeline !== timeline)
    return `the server is on timeline ${timeline}, and its parent was taken on timeline ${content.timeline}`;
  if (content.dataChecksums !== server.dataChecksums)
    return "checksums of pages were switched since its parent was taken";
  return undefined;
}

/** The programs that decode a stream; undefined where this host has no identity for it. */
function tryToDecode(
  stream: StoredStream,
  recipients: readonly string[],
  identities: string | undefined,
): readonly Program[] | undefined {
  try {
    return decodePrograms(stream, stream.encrypted ? matchIdentities(recipients, identities) : undefined);
  } catch (error) {
    if (isFailure(error, "IDENTITY_MISSING") || isFailure(error, "IDENTITY_WRONG")) return undefined;
    throw error;
  }
}

async function* readBackupManifest(
  source: {
    storage: Storage;
    prefix: string;
    stream: StoredStream;
    programs: readonly Program[];
    signal: AbortSignal;
  },
  { sha256, backupId }: { sha256: string; backupId: string },
): AsyncGenerator<Uint8Array, void> {
  const { storage, prefix, stream, programs, signal } = source;
  const hash = createHash("sha256");
  const input = openStoredStream(storage, { prefix, stream, signal });
  await using chain = programs.length > 0 ? await openChain(programs, { signal, input }) : undefined;
  for await (const chunk of (chain?.output ?? input) as AsyncIterable<Buffer>) {
    hash.update(chunk);
    yield chunk;
  }
  await chain?.done;
  if (hash.digest("hex") !== sha256)
    throw new Failure("INCREMENTAL_REFUSED", `the backup_manifest of its parent ${backupId} is another one`);
}

/**
 * Looks at the parent of an incremental backup. What speaks against it is no failure but a reason for a full backup;
 * it fails only as the storage does.
 */
export async function chooseParent(
  request: ParentRequest | undefined,
  seen: { facts: ClusterFacts; server: ServerFacts; timeline: number; signal: AbortSignal },
): Promise<ChosenParent> {
  const { facts, server, signal } = seen;
  if (!request) return { fullReason: "the cluster has no backup that it could build on" };
  if (server.summarizesWal !== true)
    return { fullReason: "the server summarizes no WAL: run ALTER SYSTEM SET summarize_wal = on and reload it" };
  const { address, storage, identities } = request;
  const { backupId } = address;
  const found = await readManifest(storage, address, signal).catch((error: unknown) => {
    if (isFailure(error, "MANIFEST_MISSING") || isFailure(error, "DIGEST_MISMATCH")) return undefined;
    throw error;
  });
  if (!found) return { fullReason: `the manifest of its parent ${backupId} is missing or another one` };
  const { manifest } = found;
  const content = manifest.content.case === "physical" ? manifest.content.value : undefined;
  const stream = content?.backupManifest;
  if (!content || !stream) return { fullReason: `its parent ${backupId} is no physical backup` };
  if (manifest.systemIdentifier !== facts.systemIdentifier)
    return { fullReason: `its parent ${backupId} is of another cluster, ${manifest.systemIdentifier}` };
  const [before, now] = [manifest.serverVersionNum, facts.serverVersionNum].map(majorOf);
  if (before !== now) return { fullReason: `its parent ${backupId} is of PostgreSQL ${before}` };
  const difference = differences(content, seen);
  if (difference) return { fullReason: difference };
  const programs = tryToDecode(stream, manifest.recipients, identities);
  if (!programs)
    return { fullReason: `the backup_manifest of its parent ${backupId} is encrypted, and this host cannot read it` };
  const source = { storage, prefix: backupPrefix(address), stream, programs, signal };
  const backupManifest = () => readBackupManifest(source, { sha256: content.backupManifestSha256, backupId });
  return { parent: { backupId, folder: address.folder, backupManifest } };
}
