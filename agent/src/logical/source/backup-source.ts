import type { BackupAddress } from "@coppice/proto/gen/coppice/agent/v1/repository_target";
import type { BackupManifest, DumpedDatabase } from "@coppice/proto/gen/coppice/repository/v1/manifest";
import { fail } from "@coppice/proto/kit/failure";
import { leftOutOfDatabases } from "@coppice/proto/kit/repository/left-out";
import { matchIdentities } from "../../pipeline/age-identity.ts";
import { decodePrograms } from "../../pipeline/stages.ts";
import { majorOf } from "../../postgres/majors.ts";
import { openStoredStream, readManifest } from "../../repository/get.ts";
import { backupPrefix } from "../../repository/layout.ts";
import type { Storage } from "../../storage/storage.ts";
import { readContents } from "../archive/contents.ts";
import { openDecoded, type RestoreSource } from "./source.ts";

/** The database of a backup that a restore is of. Fails with DATABASE_NOT_IN_BACKUP. */
function findInBackup(manifest: BackupManifest, name: string): DumpedDatabase {
  const dump = manifest.content.case === "dump" ? manifest.content.value : undefined;
  const database = dump?.databases.find((each) => each.name === name);
  if (database) return database;
  const missing = dump?.missing.find((each) => each.name === name);
  const why = missing ? `: ${missing.message}` : "";
  return fail(
    "DATABASE_NOT_IN_BACKUP",
    `the backup ${manifest.backupId} does not hold the database ${JSON.stringify(name)}${why}`,
  );
}

/**
 * One database of a backup. Only the manifest and the beginning of an archive are read, and nothing but the manifest
 * when the identities do not fit. Fails as readManifest, matchIdentities and readContents do, and with
 * DATABASE_NOT_IN_BACKUP.
 */
export async function openBackupSource(
  storage: Storage,
  {
    address,
    database: name,
    identities: given,
    signal,
  }: { address: BackupAddress; database: string; identities: string | undefined; signal: AbortSignal },
): Promise<RestoreSource> {
  const prefix = backupPrefix(address);
  const { manifest } = await readManifest(storage, address, signal);
  const dumped = findInBackup(manifest, name);
  const options = manifest.content.case === "dump" ? manifest.content.value.options : undefined;
  const { format, stream } = dumped;
  if (!stream) fail("MANIFEST_UNREADABLE", `the manifest names no objects of the database ${JSON.stringify(name)}`);
  if (format !== "custom" && format !== "plain")
    fail("FEATURE_UNKNOWN", `the format ${JSON.stringify(format)} of the database is unknown`);
  const identities = matchIdentities(stream.encrypted ? manifest.recipients : [], given);
  const open: RestoreSource["open"] = ({ signal: reading, onBytes }) => ({
    input: openStoredStream(storage, { prefix, stream, signal: reading, ...(onBytes ? { onBytes } : {}) }),
    programs: decodePrograms(stream, identities),
  });
  const readToc = async () => {
    await using decoded = await openDecoded(open({ signal }), signal);
    return await readContents(decoded.output);
  };
  return {
    title: `the backup ${address.backupId}`,
    format,
    contents: format === "custom" ? await readToc() : undefined,
    isCluster: false,
    dumped,
    leftOut: options ? leftOutOfDatabases(options) : [],
    serverMajor: majorOf(manifest.serverVersionNum),
    toolMajor: Number.parseInt(manifest.tools.find((tool) => tool.name === "pg_dump")?.version ?? "0", 10),
    storedBytes: stream.objects.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0n),
    folder: undefined,
    open,
  };
}
