import {
  BaseBackupCodec,
  type BaseBackupOptions,
  CheckpointMode,
} from "@coppice/proto/gen/coppice/common/v1/base_backup_options";
import { fail } from "@coppice/proto/kit/failure";
import type { Codec } from "../../pipeline/stages.ts";

/** The options of a physical backup with every default applied. */
export interface ResolvedBackupOptions {
  readonly given: BaseBackupOptions;
  readonly checkpoint: "fast" | "spread";
  /** Undefined: as fast as it goes. */
  readonly maxRateKib: number | undefined;
  readonly codec: Codec;
  /** Of gzip 0 means its own default. */
  readonly level: number;
  /** Threads that are to compress on the server; undefined: as many as are sensible. */
  readonly workers: number | undefined;
  readonly label: string;
  readonly walWaitMs: number;
}

const leastRateKib = 32;
/** Of data files it takes half the time of level 3, for about a twentieth more to store. */
const defaultZstdLevel = 1;
const defaultWalWaitMs = 3_600_000;
const codecs: Readonly<Record<BaseBackupCodec, Codec>> = {
  [BaseBackupCodec.UNSPECIFIED]: "zstd",
  [BaseBackupCodec.ZSTD]: "zstd",
  [BaseBackupCodec.GZIP]: "gzip",
  [BaseBackupCodec.NONE]: "none",
};

/** Resolves what was asked for. Fails with INVALID_FIELD. */
export function resolveBackupOptions(given: BaseBackupOptions, backupId: string): ResolvedBackupOptions {
  const codec = codecs[given.codec];
  const level = given.compressionLevel || (codec === "zstd" ? defaultZstdLevel : 0);
  if (codec === "gzip" && level > 9) fail("INVALID_FIELD", `gzip has no level ${level}`, { hint: "it has 1 to 9" });
  const workers = given.compressionWorkers || undefined;
  if (workers !== undefined && codec !== "zstd")
    fail("INVALID_FIELD", `codec ${codec} compresses by one thread at most, not by ${workers}`, {
      hint: "leave --compression-workers out, or take codec zstd",
    });
  const maxRateKib = Number(given.maxRateBytes) / 1024;
  if (maxRateKib > 0 && maxRateKib < leastRateKib)
    fail("INVALID_FIELD", `a server cannot be slowed down to ${given.maxRateBytes} bytes a second`, {
      hint: "32 KiB is the least that PostgreSQL takes",
    });
  const { walWait } = given;
  return {
    given,
    checkpoint: given.checkpoint === CheckpointMode.SPREAD ? "spread" : "fast",
    maxRateKib: maxRateKib > 0 ? Math.floor(maxRateKib) : undefined,
    codec,
    level,
    workers,
    label: given.label || backupId,
    walWaitMs: walWait ? Number(walWait.seconds) * 1000 + walWait.nanos / 1e6 : defaultWalWaitMs,
  };
}
