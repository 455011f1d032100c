import { durationMs } from "@bufbuild/protobuf/wkt";
import {
  DumpCodec,
  DumpContents,
  DumpFormat,
  type DumpOptions,
} from "@coppice/proto/gen/coppice/common/v1/dump_options";
import { fail } from "@coppice/proto/kit/failure";
import type { Codec } from "../../pipeline/stages.ts";

/** How a dump is taken, every default filled in. */
export interface ResolvedDumpOptions {
  readonly given: DumpOptions;
  readonly format: "custom" | "plain";
  readonly codec: Codec;
  /** Databases dumped at the same time. */
  readonly jobs: number;
  readonly lockWaitMs: number;
  /** Undefined is without limit. */
  readonly statementTimeoutMs: number | undefined;
  /** Undefined is the default of connections. */
  readonly connectTimeoutMs: number | undefined;
  /** Whether only some tables or schemas of each database are wanted. */
  readonly isSelection: boolean;
}

const defaultJobs = 2;
const defaultLockWaitMs = 300_000;
const codecs: Partial<Record<DumpCodec, Codec>> = { [DumpCodec.GZIP]: "gzip", [DumpCodec.NONE]: "none" };
const mostLevel = { zstd: 19, gzip: 9, none: 0 };

/** Fills in the defaults. Fails with INVALID_FIELD for options that contradict each other, before anything is touched. */
export function resolveDumpOptions(given: DumpOptions): ResolvedDumpOptions {
  const codec = codecs[given.codec] ?? "zstd";
  if (given.compressionLevel > mostLevel[codec])
    fail("INVALID_FIELD", `codec ${codec} has no level ${given.compressionLevel}, its highest is ${mostLevel[codec]}`);
  const isSelection = given.tables.length > 0 || given.schemas.length > 0;
  if (isSelection && given.databases.length === 0)
    fail("INVALID_FIELD", "tables and schemas are chosen, and it is not said of which databases", {
      hint: "name the databases too; the chosen tables and schemas have to be in each of them",
    });
  if (given.clusterDump) refuseOutsideClusterDump(given);
  return {
    given,
    format: given.format === DumpFormat.PLAIN ? "plain" : "custom",
    codec,
    jobs: given.jobs || defaultJobs,
    lockWaitMs: Math.round(given.lockWaitTimeout ? durationMs(given.lockWaitTimeout) : defaultLockWaitMs),
    statementTimeoutMs: given.statementTimeout && durationMs(given.statementTimeout),
    connectTimeoutMs: given.connectTimeout && durationMs(given.connectTimeout),
    isSelection,
  };
}

/** What pg_dumpall has no option for. */
function refuseOutsideClusterDump(given: DumpOptions): void {
  const refused = Object.entries({
    databases: given.databases.length > 0,
    tables: given.tables.length > 0,
    exclude_tables: given.excludeTables.length > 0,
    schemas: given.schemas.length > 0,
    exclude_schemas: given.excludeSchemas.length > 0,
    exclude_table_data: given.excludeTableData.length > 0,
    no_large_objects: given.noLargeObjects,
    serializable_deferrable: given.serializableDeferrable,
  }).flatMap(([name, isGiven]) => (isGiven ? [name] : []));
  if (refused.length > 0)
    fail("INVALID_FIELD", `pg_dumpall, which makes a cluster dump, knows nothing like ${refused.join(", ")}`, {
      hint: "leave those out, or take the cluster dump as a backup of its own",
    });
}

/** The arguments that pg_dump and pg_dumpall share. */
function sharedArguments({ given, lockWaitMs }: ResolvedDumpOptions): string[] {
  const flags: [flag: string, isGiven: boolean][] = [
    ["--schema-only", given.contents === DumpContents.SCHEMA_ONLY],
    ["--data-only", given.contents === DumpContents.DATA_ONLY],
    ["--no-owner", given.noOwner],
    ["--no-privileges", given.noPrivileges],
    ["--no-comments", given.noComments],
    ["--no-publications", given.noPublications],
    ["--no-subscriptions", given.noSubscriptions],
    ["--no-security-labels", given.noSecurityLabels],
    [`--rows-per-insert=${given.rowsPerInsert}`, given.rowsPerInsert > 0],
  ];
  return [`--lock-wait-timeout=${lockWaitMs}`, ...flags.flatMap(([flag, isGiven]) => (isGiven ? [flag] : []))];
}

/** The arguments of pg_dump, for tools of that major version, but for the connection. */
export function pgDumpArguments(options: ResolvedDumpOptions, toolMajor: number): string[] {
  const { given, format, isSelection } = options;
  const each = (flag: string, patterns: readonly string[]) => patterns.map((pattern) => `--${flag}=${pattern}`);
  return [
    `--format=${format}`,
    ...(format === "custom" ? ["--compress=0"] : []),
    ...sharedArguments(options),
    // Without it one of several patterns could match nothing unnoticed.
    ...(isSelection ? ["--strict-names"] : []),
    ...each("table", given.tables),
    ...each("exclude-table", given.excludeTables),
    ...each("schema", given.schemas),
    ...each("exclude-schema", given.excludeSchemas),
    ...each("exclude-table-data", given.excludeTableData),
    // Its name before 16.
    ...(given.noLargeObjects ? [toolMajor < 16 ? "--no-blobs" : "--no-large-objects"] : []),
    ...(given.serializableDeferrable ? ["--serializable-deferrable"] : []),
  ];
}

/** The arguments of pg_dumpall for a dump of the whole cluster without these databases, but for the connection. */
export function pgDumpallArguments(options: ResolvedDumpOptions, leftOut: readonly string[]): string[] {
  // A pattern in quotes is a plain name.
  return [...sharedArguments(options), ...leftOut.map((name) => `--exclude-database="${name.replaceAll('"', '""')}"`)];
}
