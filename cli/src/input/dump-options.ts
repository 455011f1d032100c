import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import {
  DumpCodec,
  DumpContents,
  DumpFormat,
  type DumpOptions,
  DumpOptionsSchema,
} from "@coppice/proto/gen/coppice/common/v1/dump_options";
import { fail } from "@coppice/proto/kit/failure";
import { Option } from "commander";
import { durationOption, integerOption, repeatableOption } from "./options.ts";

/** Flags that say how a dump is taken. What begins with `--no-` is false when it is given, else true. */
export interface DumpFlags {
  readonly database?: readonly string[];
  readonly excludeDatabase?: readonly string[];
  readonly jobs?: number;
  readonly format?: keyof typeof formats;
  readonly codec?: keyof typeof codecs;
  readonly level?: number;
  readonly clusterDump?: boolean;
  readonly table?: readonly string[];
  readonly excludeTable?: readonly string[];
  readonly schema?: readonly string[];
  readonly excludeSchema?: readonly string[];
  readonly excludeTableData?: readonly string[];
  readonly schemaOnly?: boolean;
  readonly dataOnly?: boolean;
  readonly owner?: boolean;
  readonly privileges?: boolean;
  readonly comments?: boolean;
  readonly publications?: boolean;
  readonly subscriptions?: boolean;
  readonly securityLabels?: boolean;
  readonly largeObjects?: boolean;
  readonly serializableDeferrable?: boolean;
  readonly rowsPerInsert?: number;
  readonly rolePasswords?: boolean;
  readonly connectTimeout?: number;
  readonly lockWaitTimeout?: number;
  readonly statementTimeout?: number;
}

const formats = { custom: DumpFormat.CUSTOM, plain: DumpFormat.PLAIN };
const codecs = { zstd: DumpCodec.ZSTD, gzip: DumpCodec.GZIP, none: DumpCodec.NONE };

/** Those flags, for commands that take them. */
export const dumpFlags = () => [
  repeatableOption("--database <name>", "dump only this database (may be repeated)"),
  repeatableOption("--exclude-database <name>", "leave this database out (may be repeated)"),
  integerOption("--jobs <n>", "databases dumped at the same time (2)", 1, 64),
  new Option("--format <format>", "custom: all in it can be restored alone; plain: SQL for psql (custom)").choices(
    Object.keys(formats),
  ),
  new Option("--codec <codec>", "compression (zstd)").choices(Object.keys(codecs)),
  integerOption(
    "--level <n>",
    "level of the compression, zstd 1 to 19 (3, of a physical backup 1), gzip 1 to 9 (6)",
    1,
    19,
  ),
  new Option("--cluster-dump", "also one SQL file of the whole cluster, by pg_dumpall"),
  repeatableOption("--table <pattern>", "only such tables, as pg_dump's --table (may be repeated)"),
  repeatableOption("--exclude-table <pattern>", "leave such tables out (may be repeated)"),
  repeatableOption("--schema <pattern>", "only such schemas, as pg_dump's --schema (may be repeated)"),
  repeatableOption("--exclude-schema <pattern>", "leave such schemas out (may be repeated)"),
  repeatableOption("--exclude-table-data <pattern>", "leave the rows of such tables out (may be repeated)"),
  new Option("--schema-only", "definitions and no rows"),
  new Option("--data-only", "rows and no definitions").conflicts("schemaOnly"),
  new Option("--no-owner", "leave out who owns what"),
  new Option("--no-privileges", "leave out who may do what"),
  new Option("--no-comments", "leave out comments"),
  new Option("--no-publications", "leave out publications"),
  new Option("--no-subscriptions", "leave out subscriptions"),
  new Option("--no-security-labels", "leave out security labels"),
  new Option("--no-large-objects", "leave out large objects"),
  new Option("--serializable-deferrable", "wait for a snapshot that no serializable transaction can contradict"),
  integerOption("--rows-per-insert <n>", "write INSERTs of so many rows, where else it is COPY", 1, 100_000),
  new Option("--no-role-passwords", "leave the roles' password hashes out"),
  durationOption("--connect-timeout <time>", "longest wait for a connection (10s)", 1_000, 3_600_000),
  durationOption("--lock-wait-timeout <time>", "longest wait for locks on tables (5m)", 1_000, 86_400_000),
  durationOption("--statement-timeout <time>", "longest time of one statement (none)", 1_000, 2_592_000_000),
];

/** What the flags ask for; what is not given is unset. Fails with INVALID_FIELD where two of them contradict. */
export function dumpOptionsFromFlags(flags: DumpFlags): DumpOptions {
  refuseContradictions(flags);
  const duration = (ms: number | undefined) => (ms === undefined ? undefined : durationFromMs(ms));
  const timeouts = {
    connectTimeout: duration(flags.connectTimeout),
    lockWaitTimeout: duration(flags.lockWaitTimeout),
    statementTimeout: duration(flags.statementTimeout),
  };
  const given = Object.fromEntries(Object.entries(timeouts).filter(([, value]) => value !== undefined));
  const init: MessageInitShape<typeof DumpOptionsSchema> = {
    databases: [...(flags.database ?? [])],
    excludeDatabases: [...(flags.excludeDatabase ?? [])],
    jobs: flags.jobs ?? 0,
    compressionLevel: flags.level ?? 0,
    format: flags.format === undefined ? DumpFormat.UNSPECIFIED : formats[flags.format],
    codec: flags.codec === undefined ? DumpCodec.UNSPECIFIED : codecs[flags.codec],
    clusterDump: flags.clusterDump ?? false,
    tables: [...(flags.table ?? [])],
    excludeTables: [...(flags.excludeTable ?? [])],
    schemas: [...(flags.schema ?? [])],
    excludeSchemas: [...(flags.excludeSchema ?? [])],
    excludeTableData: [...(flags.excludeTableData ?? [])],
    contents: contentsOf(flags),
    noOwner: flags.owner === false,
    noPrivileges: flags.privileges === false,
    noComments: flags.comments === false,
    noPublications: flags.publications === false,
    noSubscriptions: flags.subscriptions === false,
    noSecurityLabels: flags.securityLabels === false,
    noLargeObjects: flags.largeObjects === false,
    serializableDeferrable: flags.serializableDeferrable ?? false,
    rowsPerInsert: flags.rowsPerInsert ?? 0,
    noRolePasswords: flags.rolePasswords === false,
    ...given,
  };
  return create(DumpOptionsSchema, init);
}

function contentsOf({ schemaOnly, dataOnly }: DumpFlags): DumpContents {
  if (schemaOnly) return DumpContents.SCHEMA_ONLY;
  return dataOnly ? DumpContents.DATA_ONLY : DumpContents.UNSPECIFIED;
}

function refuseContradictions({ codec, level, schemaOnly, rowsPerInsert, excludeTableData }: DumpFlags): void {
  if (level !== undefined && codec === "none") {
    fail("INVALID_FIELD", "--level is given, and --codec none compresses nothing", { hint: "leave one of them out" });
  }
  if (level !== undefined && level > 9 && codec === "gzip") {
    fail("INVALID_FIELD", `--level ${level} is none of gzip's`, { hint: "give 1 to 9, or --codec zstd" });
  }
  if (schemaOnly && (rowsPerInsert !== undefined || excludeTableData !== undefined)) {
    fail("INVALID_FIELD", "--schema-only leaves all rows out, and another option is about rows", {
      hint: "leave --rows-per-insert and --exclude-table-data out",
    });
  }
}
