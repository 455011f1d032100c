import { open, readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { fail, toFailure } from "@coppice/proto/kit/failure";
import { readTextFile } from "@coppice/proto/kit/read-text-file";
import { parseLsn } from "@coppice/proto/kit/wal/lsn";
import { isSegmentName, segmentName } from "@coppice/proto/kit/wal/segment";
import { openTablespaceWatch } from "../postgres/wal/new-tablespaces.ts";
import type { SegmentTablespaces } from "../postgres/wal/tablespace-records.ts";
import { isWalName } from "../repository/layout.ts";
import { fetchPatiently } from "../wal/fetch/fetch-patiently.ts";
import { offlineFailure } from "./offline-failure.ts";
import { openPlace, type PlaceOptions } from "./place/place.ts";

/** Which file of which archive goes where. */
export interface FetchOptions extends PlaceOptions {
  /** cls_… */
  readonly cluster: string;
  readonly systemIdentifier?: string;
  /** Seconds. */
  readonly wait: number;
  readonly identity?: string;
  /** Nothing from this position on is handed out. */
  readonly endLsn?: string;
  /** Name as PostgreSQL gives it by %f. */
  readonly file: string;
  /** Path as it gives it by %p. */
  readonly destination: string;
}

/** What PostgreSQL takes for "there is no such file", and ends recovery with. */
const absentCode = 1;
/** What stops a server that recovers, rather than let it begin without WAL that exists. */
const troubleCode = 126;

/**
 * Fetches one file of WAL for a restore_command and gives the exit code: 1 only when the archive surely has no such file;
 * any other trouble is 126, or 1 for a standby, which asks again.
 */
export async function fetchFromRepository(options: FetchOptions, signal: AbortSignal): Promise<number> {
  try {
    const { cluster: clusterId, file: name, destination: path } = options;
    if (!isWalName(name)) return absentCode;
    const systemIdentifier = options.systemIdentifier ?? (await readSystemIdentifier());
    const identities = options.identity === undefined ? undefined : await readTextFile(options.identity, "identities");
    await using storage = await openPlace(options, signal);
    const endLsn = options.endLsn === undefined ? undefined : parseLsn(options.endLsn);
    const wal = { place: { clusterId, systemIdentifier }, name, identities, endLsn, signal };
    if (!(await fetchPatiently(storage, wal, { path, waitMs: options.wait * 1000 }))) return absentCode;
    await requireNoNewTablespace(path, name);
    return 0;
  } catch (error) {
    const { message, hint } = toFailure(offlineFailure(error));
    process.stderr.write(`✗ ${options.file}: ${message}\n  next: ${hint}\n`);
    return (await isStandby()) ? absentCode : troubleCode;
  }
}

/** What is replayed must not write where another server has its tables. */
async function requireNoNewTablespace(path: string, name: string): Promise<void> {
  const watch = openTablespaceWatch({ dataDirectory: ".", isScratch: false });
  const seen = await watch.look(path, name);
  if (!seen) return;
  const before = await findReplayed(name, seen);
  const seenBefore = before && (await watch.look(join("pg_wal", before), before));
  if (seenBefore) await watch.admit(seenBefore);
  await watch.admit(seen);
  if (!watch.refused) return;
  await rm(path);
  throw watch.refused;
}

/** The segment that was replayed before one, in which a record of it may have begun, where PostgreSQL has kept it. */
async function findReplayed(name: string, { startLsn, endLsn }: SegmentTablespaces): Promise<string | undefined> {
  const segmentBytes = endLsn - startLsn;
  if (startLsn < segmentBytes) return undefined;
  const before = segmentName(0, startLsn - segmentBytes, segmentBytes);
  const names = (await readdir("pg_wal").catch(() => [])).filter((each) => isSegmentName(each) && each < name);
  return names.toSorted().findLast((each) => each.slice(8) === before.slice(8));
}

/** PostgreSQL runs the command in the data directory. */
async function readSystemIdentifier(): Promise<string> {
  try {
    await using file = await open(join("global", "pg_control"), "r");
    const head = Buffer.alloc(8);
    await file.read(head, 0, head.length, 0);
    return head.readBigUInt64LE(0).toString();
  } catch (cause) {
    return fail("INVALID_FIELD", "which server the WAL is of is not known", {
      hint: "run it in the data directory, as PostgreSQL does, or give --system-identifier",
      cause,
    });
  }
}

async function isStandby(): Promise<boolean> {
  return (await stat("standby.signal").catch(() => undefined)) !== undefined;
}
