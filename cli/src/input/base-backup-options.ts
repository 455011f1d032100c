import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import {
  BaseBackupCodec,
  type BaseBackupOptions,
  BaseBackupOptionsSchema,
  CheckpointMode,
  IncrementalMethod,
} from "@coppice/proto/gen/coppice/common/v1/base_backup_options";
import { BackupKind } from "@coppice/proto/gen/coppice/common/v1/backup_kind";
import { fail, isFailure } from "@coppice/proto/kit/failure";
import { parseSize } from "@coppice/proto/kit/size";
import { InvalidArgumentError, Option } from "commander";
import { type DumpFlags, dumpFlags } from "./dump-options.ts";
import { durationOption, integerOption } from "./options.ts";

/** Flags that say how a physical backup is taken, beside --codec and --level, which dumps have too. */
export interface BaseBackupFlags extends Pick<DumpFlags, "codec" | "level"> {
  readonly wal?: "archive" | "embedded";
  readonly walWait?: number;
  readonly checkpoint?: keyof typeof checkpoints;
  readonly maxRate?: bigint;
  readonly compressionWorkers?: number;
  readonly acceptCorrupt?: boolean;
  readonly backupLabel?: string;
  readonly parent?: string;
  readonly method?: keyof typeof methods;
}

const checkpoints = { fast: CheckpointMode.FAST, spread: CheckpointMode.SPREAD };
const codecs = { zstd: BaseBackupCodec.ZSTD, gzip: BaseBackupCodec.GZIP, none: BaseBackupCodec.NONE };
const methods = { native: IncrementalMethod.NATIVE, wal: IncrementalMethod.WAL };
const leastRate = 32n << 10n;
const mostRate = 1n << 30n;
const mostWalWaitMs = 604_800_000;

/** Those flags, for commands that take them. */
export const baseBackupFlags = () => [
  new Option(
    "--wal <where>",
    "physical: where the WAL that it needs goes (archive where `wal setup` archives into the same repository and works, else embedded in it)",
  ).choices(["archive", "embedded"]),
  durationOption(
    "--wal-wait <time>",
    "with --wal archive: fail when no more of it comes for so long (1h)",
    1000,
    mostWalWaitMs,
  ),
  new Option("--parent <backup>", "incremental: what it builds on (the newest that can be one)"),
  new Option(
    "--method <method>",
    "incremental: native, changed blocks (where the server can: 17 and newer), or wal, archived WAL to a restore point (elsewhere)",
  ).choices(Object.keys(methods)),
  new Option(
    "--checkpoint <mode>",
    "physical: begin with a checkpoint at once, or with one that is spread over time, gentler and later (fast)",
  ).choices(Object.keys(checkpoints)),
  new Option("--max-rate <size>", "physical: most bytes a second, 32KiB to 1GiB (none)").argParser(parseRate),
  integerOption(
    "--compression-workers <n>",
    "physical: threads of the server that compress, with codec zstd, 1 to 64 (half of the host's cores, 2 to 4; 2 where the agent is elsewhere)",
    1,
    64,
  ),
  new Option("--accept-corrupt", "physical: take it also when pages fail their checksums; it is shown"),
  new Option("--backup-label <text>", "physical: label in backup_label (the backup's id)"),
];

function parseRate(text: string): bigint {
  try {
    const rate = parseSize(text);
    if (rate >= leastRate && rate <= mostRate) return rate;
  } catch (error) {
    if (!isFailure(error)) throw error;
  }
  throw new InvalidArgumentError("Expected a size from 32KiB to 1GiB, such as 50MB.");
}

/**
 * What the flags of a physical backup ask for; what is not given is unset. Fails with INVALID_FIELD where one of them is
 * about dumps.
 */
export function baseBackupOptionsFromFlags(
  kind: BackupKind.FULL | BackupKind.INCREMENTAL,
  flags: BaseBackupFlags & DumpFlags,
): BaseBackupOptions {
  for (const flag of ["parent", "method"] as const) {
    if (kind !== BackupKind.FULL || flags[flag] === undefined) continue;
    fail("INVALID_FIELD", `a full backup has no ${flag}`, {
      hint: `leave --${flag} out, or take --kind incremental`,
    });
  }
  const ofDumps = givenOf(dumpFlags(), flags).filter((flag) => flag !== "--codec" && flag !== "--level");
  if (ofDumps.length > 0) {
    fail("INVALID_FIELD", `${ofDumps.join(", ")}: that is about dumps, and a physical backup is of the whole cluster`, {
      hint: "leave it out, or take a dump with --kind dump",
    });
  }
  if (flags.wal === "embedded" && flags.walWait !== undefined) {
    fail("INVALID_FIELD", "--wal-wait: WAL that is embedded is not waited for", { hint: "leave one of them out" });
  }
  refuseWrongLevel(flags);
  if (flags.compressionWorkers !== undefined && flags.codec !== undefined && flags.codec !== "zstd") {
    fail("INVALID_FIELD", `--compression-workers: --codec ${flags.codec} has none`, { hint: "leave one of them out" });
  }
  if (flags.compressionWorkers !== undefined && flags.method === "wal") {
    fail(
      "INVALID_FIELD",
      "--compression-workers: an incremental by archived WAL copies nothing that is to be compressed",
      {
        hint: "leave one of them out",
      },
    );
  }
  const init: MessageInitShape<typeof BaseBackupOptionsSchema> = {
    checkpoint: flags.checkpoint === undefined ? CheckpointMode.UNSPECIFIED : checkpoints[flags.checkpoint],
    maxRateBytes: flags.maxRate ?? 0n,
    codec: flags.codec === undefined ? BaseBackupCodec.UNSPECIFIED : codecs[flags.codec],
    compressionLevel: flags.level ?? 0,
    compressionWorkers: flags.compressionWorkers ?? 0,
    acceptCorrupt: flags.acceptCorrupt ?? false,
    label: flags.backupLabel ?? "",
    walEmbedded: flags.wal === "embedded",
    walArchived: flags.wal === "archive",
    ...(flags.walWait === undefined ? {} : { walWait: durationFromMs(flags.walWait) }),
    parent: flags.parent ?? "",
    method: flags.method === undefined ? IncrementalMethod.UNSPECIFIED : methods[flags.method],
  };
  return create(BaseBackupOptionsSchema, init);
}

/** Fails with INVALID_FIELD where a flag of physical backups is given with a dump. */
export function refuseBaseBackupFlags(flags: BaseBackupFlags): void {
  const given = givenOf(baseBackupFlags(), flags);
  if (given.length === 0) return;
  fail("INVALID_FIELD", `${given.join(", ")}: that is about physical backups`, {
    hint: "add --kind full or --kind incremental",
  });
}

function refuseWrongLevel({ codec, level }: BaseBackupFlags): void {
  if (level === undefined || codec === undefined || codec === "zstd") return;
  if (codec === "gzip" && level <= 9) return;
  fail("INVALID_FIELD", `--level ${level} is none of --codec ${codec}`, {
    hint: codec === "gzip" ? "give 1 to 9, or --codec zstd" : "leave one of them out",
  });
}

/** Those of the options that were given; what begins with `--no-` is false then. */
function givenOf(options: readonly Option[], flags: object): string[] {
  return options
    .filter((option) => {
      const value: unknown = Reflect.get(flags, option.attributeName());
      return option.negate ? value === false : value !== undefined;
    })
    .map(({ long }) => long ?? "");
}
