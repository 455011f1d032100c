import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import type { StoredStream } from "@coppice/proto/gen/coppice/repository/v1/stored_object";
import { Failure, isFailure } from "@coppice/proto/kit/failure";
import { openChain } from "../../../host/chain.ts";
import type { Program } from "../../../host/program.ts";
import { matchIdentities } from "../../../pipeline/age-identity.ts";
import { decodePrograms } from "../../../pipeline/stages.ts";
import { incrementalDefect } from "../../../postgres/check/incremental-defects.ts";
import { openStoredStream } from "../../../repository/get.ts";
import { backupPrefix } from "../../../repository/layout.ts";
import type { Storage } from "../../../storage/storage.ts";
import { findKept } from "./kept-manifest.ts";
import { type ParentRequest, readParent, type SeenServer } from "./read-parent.ts";

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

async function* readStored(source: {
  storage: Storage;
  prefix: string;
  stream: StoredStream;
  programs: readonly Program[];
  signal: AbortSignal;
}): AsyncGenerator<Uint8Array, void> {
  const { storage, prefix, stream, programs, signal } = source;
  const input = openStoredStream(storage, { prefix, stream, signal });
  await using chain = programs.length > 0 ? await openChain(programs, { signal, input }) : undefined;
  yield* (chain?.output ?? input) as AsyncIterable<Buffer>;
  await chain?.done;
}

/** The same bytes, which fail at their end when they are not those that were stored. */
async function* checked(
  bytes: AsyncIterable<Uint8Array>,
  { sha256, backupId }: { sha256: string; backupId: string },
): AsyncGenerator<Uint8Array, void> {
  const hash = createHash("sha256");
  for await (const chunk of bytes) {
    hash.update(chunk);
    yield chunk;
  }
  if (hash.digest("hex") !== sha256)
    throw new Failure("INCREMENTAL_REFUSED", `the backup_manifest of its parent ${backupId} is another one`);
}

/**
 * Looks at the parent of an incremental backup. Its backup_manifest is the one that this host has kept in `folder`, or
 * else read back from the repository. What speaks against it is no failure but a reason for a full backup; it fails only
 * as the storage does.
 */
export async function chooseParent(
  request: ParentRequest | undefined,
  seen: SeenServer,
  folder: string,
): Promise<ChosenParent> {
  const { server, signal } = seen;
  if (!request) return { fullReason: "the repository that it goes into has no backup that it could build on" };
  if (server.summarizesWal !== true)
    return { fullReason: "the server summarizes no WAL: run ALTER SYSTEM SET summarize_wal = on and reload it" };
  const versionNum = seen.facts.serverVersionNum;
  const defect = incrementalDefect({ versionNum, logsHints: server.logsHints });
  if (defect) return { fullReason: `${defect.version} ${defect.does}: ${defect.mend}` };
  const found = await readParent(request, seen);
  if (!found.manifest) return { fullReason: found.problem };
  const { address, storage, identities } = request;
  const { backupId, clusterId } = address;
  const { manifest, content } = found;
  const { backupManifest: stream, backupManifestSha256: sha256 } = content;
  if (!stream) return { fullReason: `its parent ${backupId} is a WAL increment and holds no blocks` };
  if (content.dataChecksums !== server.dataChecksums)
    return { fullReason: "checksums of pages were switched since its parent was taken" };
  // What was wrong with an incremental stays wrong; of a full one only what WAL has not told since.
  const inherited = incrementalDefect({
    versionNum: content.parentBackupId === "" ? versionNum : manifest.serverVersionNum,
    logsHints: content.hintsLogged || content.dataChecksums,
  });
  if (inherited)
    return { fullReason: `its parent ${backupId} was taken of ${inherited.version} when that ${inherited.does}` };
  const parent = (read: () => AsyncIterable<Uint8Array>): ChosenParent => ({
    parent: { backupId, folder: address.folder, backupManifest: () => checked(read(), { sha256, backupId }) },
  });
  const end = { clusterId, repositoryId: address.repository?.repositoryId ?? "", backupId };
  const kept = await findKept(folder, end, sha256);
  if (kept.path !== undefined) return parent(() => createReadStream(kept.path) as AsyncIterable<Buffer>);
  const programs = tryToDecode(stream, manifest.recipients, identities);
  if (programs) return parent(() => readStored({ storage, prefix: backupPrefix(address), stream, programs, signal }));
  const why = kept.is === "missing" ? "it keeps no copy of it" : "the copy that it keeps is another one";
  return {
    fullReason: `the backup_manifest of its parent ${backupId} is encrypted, and this host cannot read it; ${why}`,
  };
}
