import { createHash } from "node:crypto";
import type { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import type { BackupManifest } from "@coppice/proto/gen/coppice/repository/v1/manifest";
import type { PhysicalContent } from "@coppice/proto/gen/coppice/repository/v1/physical_content";
import type { StoredStream } from "@coppice/proto/gen/coppice/repository/v1/stored_object";
import { fail, Failure, isFailure } from "@coppice/proto/kit/failure";
import { parseLsn } from "@coppice/proto/kit/wal/lsn";
import { parseWalFile, segmentName } from "@coppice/proto/kit/wal/segment";
import { openChain } from "../../host/chain.ts";
import { matchIdentities } from "../../pipeline/age-identity.ts";
import { decodePrograms } from "../../pipeline/stages.ts";
import type { EndRecord } from "../../postgres/wal/end-record.ts";
import { archivedWalStreams } from "../../repository/manifest-objects.ts";
import type { CheckContent } from "../../repository/verify.ts";
import { readTar, type TarEntry, type TarSink } from "../tar/read.ts";
import { type Digest, type ManifestFile, openDigest, parseBackupManifest } from "./backup-manifest.ts";
import { openWalContentCheck, walArchiveSink } from "./wal-content.ts";

type Plain = AsyncIterable<Uint8Array>;

/** What the server puts into an archive without listing it. */
const unlisted = new Set(["tablespace_map"]);

/** A program that somebody killed, or that could not be started, says nothing of what it was to read. */
function asContentFailure(error: unknown): unknown {
  if (!isFailure(error, "PROGRAM_FAILED") || error.metadata["exitCode"] === undefined) return error;
  return new Failure("CONTENT_UNREADABLE", error.message, { cause: error });
}

function wrong(what: string): never {
  return fail("CONTENT_UNREADABLE", what);
}

const labelName = "backup_label";

/** Holds what PostgreSQL's own label says against the manifests of the backup and its parent. */
function checkLabel(
  label: string,
  { startLsn, parentStartLsn }: { startLsn: string; parentStartLsn?: string | undefined },
): void {
  const said = (what: string) => new RegExp(`^${what}: ([0-9A-F/]+)`, "m").exec(label)?.[1];
  const [start, parent] = [said("START WAL LOCATION"), said("INCREMENTAL FROM LSN")];
  if (start === undefined || parseLsn(start) !== parseLsn(startLsn))
    wrong(`its ${labelName} says that it begins at ${start ?? "nowhere"} instead of ${startLsn}`);
  if (parentStartLsn !== undefined && (parent === undefined || parseLsn(parent) !== parseLsn(parentStartLsn)))
    wrong(
      `its ${labelName} says that it builds on a backup from ${parent ?? "nowhere"}, and its parent is from ${parentStartLsn}`,
    );
}

/** Checks each file of an archive by what the manifest says, and takes it off the list of those that have to come. */
function openArchiveCheck(files: Map<string, ManifestFile>, place: string, onLabel: (label: string) => void): TarSink {
  let current: { path: string; expected: ManifestFile; digest: Digest | undefined } | undefined;
  let label = "";
  const nameOf = (path: string) => JSON.stringify(Buffer.from(path, "latin1").toString("utf8"));
  return {
    onEntry({ name, type, sizeBytes }: TarEntry) {
      current = undefined;
      if (type !== "file") return;
      const path = place + name;
      const expected = files.get(path);
      if (!expected)
        return unlisted.has(path) ? undefined : wrong(`the archive holds ${nameOf(path)}, which is in no manifest`);
      if (expected.sizeBytes !== sizeBytes)
        wrong(`${nameOf(path)} has ${sizeBytes} bytes instead of ${expected.sizeBytes}`);
      current = { path, expected, digest: openDigest(expected.algorithm) };
    },
    onContent(piece) {
      current?.digest?.update(piece);
      if (current?.path === labelName) label += piece.toString("latin1");
    },
    onFileEnd() {
      if (!current) return;
      const { path, expected, digest } = current;
      if (digest && digest.finish() !== expected.checksum)
        wrong(`${nameOf(path)} has another checksum than its manifest says`);
      if (path === labelName) onLabel(label);
      files.delete(path);
    },
  };
}

/** The files that an archive has to hold: those of its tablespace, or those of none. */
function filesOf(files: ReadonlyMap<string, ManifestFile>, place: string, others: readonly string[]) {
  const isOwn = (path: string) => path.startsWith(place) && !others.some((other) => path.startsWith(other));
  return new Map([...files].filter(([path]) => isOwn(path)));
}

/** Where a stream's files lie below the data directory; undefined where it is no archive of files. */
function placeOf(physical: PhysicalContent, stream: StoredStream): string | undefined {
  if (stream === physical.base) return "";
  const tablespace = physical.tablespaces.find((one) => one.stream === stream);
  return tablespace && `pg_tblspc/${tablespace.oid}/`;
}

/** The record that its WAL ends with; a standby writes none. */
function endRecordOf({ fromStandby, restorePoint, startLsn }: PhysicalContent): EndRecord | undefined {
  if (restorePoint !== "") return { is: "restorePoint", name: restorePoint };
  return fromStandby ? undefined : { is: "backupEnd", startLsn: parseLsn(startLsn) };
}

/** What a physical backup is looked into with. */
export interface PhysicalCheckOptions {
  /** An identity file, where the backup is encrypted. */
  readonly identities: string | undefined;
  /** Where the WAL of its parent begins, of an incremental whose parent's manifest was read. */
  readonly parentStartLsn?: string | undefined;
  readonly signal: AbortSignal;
}

/**
 * What verifyBackup needs to look into each stream of a physical backup: decrypts, decompresses and parses it, and holds
 * every file against PostgreSQL's backup_manifest, which is the first of the streams, and every record of its WAL
 * against its checksum. Undefined for another kind of backup. Fails before any stream is fetched with IDENTITY_MISSING or IDENTITY_WRONG; the check
 * itself fails with CONTENT_UNREADABLE, with PROGRAM_FAILED when a program was killed, or as its input does.
 */
export function openPhysicalCheck(
  manifest: BackupManifest,
  { identities, parentStartLsn, signal }: PhysicalCheckOptions,
): CheckContent | undefined {
  if (manifest.content.case !== "physical") return undefined;
  const physical = manifest.content.value;
  const fitting = matchIdentities(manifest.recipients, identities);
  const archived = new Map(archivedWalStreams(manifest).map(({ stream, name }) => [stream, name]));
  let files: Map<string, ManifestFile> | undefined;
  const { startLsn, stopLsn, timeline, walSegmentBytes } = physical;
  const { systemIdentifier } = manifest;
  const endsRecord = !physical.fromStandby;
  const endRecord = endRecordOf(physical);
  const expectedWal = { systemIdentifier, startLsn, stopLsn, timeline, walSegmentBytes, endsRecord, endRecord };
  let archivedCheck = archived.size > 0 ? openWalContentCheck(expectedWal) : undefined;

  async function decode(stream: StoredStream, input: Readable, read: (plain: Plain) => Promise<void>): Promise<void> {
    const programs = decodePrograms(stream, fitting);
    // Who gave it closes it.
    if (programs.length === 0) return await read(input.iterator({ destroyOnReturn: false }));
    await using chain = await openChain(programs, { signal, input });
    try {
      await read(chain.output);
      await chain.done;
    } catch (error) {
      throw asContentFailure(error);
    }
  }

  async function checkManifest(plain: Plain): Promise<void> {
    const bytes = await buffer(plain);
    if (createHash("sha256").update(bytes).digest("hex") !== physical.backupManifestSha256)
      wrong("the backup_manifest is another one than was stored");
    const parsed = parseBackupManifest(bytes);
    const own = parsed.walRanges.find((range) => range.timeline === timeline);
    if (!own || parseLsn(own.startLsn) !== parseLsn(startLsn) || parseLsn(own.endLsn) !== parseLsn(stopLsn))
      wrong(`the backup_manifest is of other WAL than ${startLsn} to ${stopLsn} on timeline ${timeline}`);
    // From PostgreSQL 17 on it names its server.
    if (parsed.systemIdentifier !== undefined && parsed.systemIdentifier !== systemIdentifier)
      wrong(`the backup_manifest is of the server with system identifier ${parsed.systemIdentifier}`);
    ({ files } = parsed);
  }

  async function checkArchive(plain: Plain, place: string): Promise<void> {
    const others = place === "" ? physical.tablespaces.map(({ oid }) => `pg_tblspc/${oid}/`) : [];
    // Without a readable manifest, which is told of by itself, the archive can still be parsed.
    const expected = files && filesOf(files, place, others);
    const sink = expected
      ? openArchiveCheck(expected, place, (label) => checkLabel(label, { startLsn, parentStartLsn }))
      : { onEntry() {}, onContent() {}, onFileEnd() {} };
    await readTar(plain, sink);
    const [missing] = expected?.keys() ?? [];
    if (missing !== undefined)
      wrong(`the archive lacks ${JSON.stringify(missing)} and ${expected!.size - 1} more files`);
  }

  async function checkWal(plain: Plain): Promise<void> {
    const check = openWalContentCheck(expectedWal);
    await readTar(plain, walArchiveSink(check));
    check.finish();
  }

  /** File by file, and records go on from one to the next; after one that is wrong those behind it are only decoded. */
  async function checkArchived(plain: Plain, name: string): Promise<void> {
    const file = parseWalFile(name, walSegmentBytes);
    const isSegment = file?.kind === "segment" || file?.kind === "partial";
    const check = isSegment ? archivedCheck : undefined;
    archivedCheck = isSegment ? undefined : archivedCheck;
    if (isSegment) check?.begin(segmentName(file.timeline, file.startLsn, walSegmentBytes), Number(walSegmentBytes));
    let sizeBytes = 0n;
    for await (const piece of plain) {
      signal.throwIfAborted();
      sizeBytes += BigInt(piece.length);
      check?.take(Buffer.from(piece.buffer, piece.byteOffset, piece.length));
    }
    if (!isSegment) return;
    if (sizeBytes !== walSegmentBytes) wrong(`${name} has ${sizeBytes} bytes instead of ${walSegmentBytes}`);
    archivedCheck = check;
    if (name === [...archived.values()].at(-1)) check?.finish();
  }

  return async (stream, input) => {
    const place = placeOf(physical, stream);
    const ofArchive = archived.get(stream);
    await decode(stream, input, async (plain) => {
      if (ofArchive !== undefined) return await checkArchived(plain, ofArchive);
      if (stream === physical.backupManifest) return await checkManifest(plain);
      if (stream === physical.wal) return await checkWal(plain);
      if (place !== undefined) return await checkArchive(plain, place);
      for await (const _ of plain) signal.throwIfAborted();
    });
  };
}
