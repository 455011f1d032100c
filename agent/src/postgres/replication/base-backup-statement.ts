import { fail } from "@coppice/proto/kit/failure";

/** What compresses the archives on the server. */
export interface ServerCompression {
  readonly codec: "zstd" | "gzip" | "lz4";
  /** The codec's own default when left out. */
  readonly level?: number;
  /** Threads, zstd only; with none the server's one process compresses. */
  readonly workers?: number;
}

/** How BASE_BACKUP is asked for. */
export interface BaseBackupOptions {
  /** One line of up to 1,000 bytes, for backup_label. */
  readonly label: string;
  readonly checkpoint: "fast" | "spread";
  /** Most KiB a second, 32 to 1,048,576; as fast as it goes when left out. */
  readonly maxRateKib?: number;
  readonly serverCompression?: ServerCompression;
  /** Against the manifest that was uploaded on this connection; from 17 on. */
  readonly incremental?: boolean;
  /**
   * CRC32C when left out, as for pg_basebackup. The one process that reads, compresses and sends hashes too, and with
   * SHA256 an uncompressed backup of 1 GB took about twice as long. What protects the backup at rest are the digests of
   * the stored objects; the manifest's are there to find what was unpacked wrongly, or written badly by a disk.
   */
  readonly manifestChecksums?: "SHA256" | "CRC32C";
  /**
   * After how much silence between its first byte and its last the server counts as hung; its wal_sender_timeout, and two
   * minutes at least, when left out.
   */
  readonly silenceMs?: number;
  /** For how long a server that has not begun yet may answer nobody; 5 min when left out. See watchForAnswers. */
  readonly unansweredMs?: number;
}

/** A string of the replication grammar, which knows no backslashes. */
function quoteString(text: string): string {
  if (/[\0\n\r]/.test(text)) fail("INVALID_FIELD", "a backup's label is one line of text");
  return `'${text.replaceAll("'", "''")}'`;
}

function compressionOptions({ codec, level, workers }: ServerCompression): string[] {
  const detail = [
    ...(level === undefined ? [] : [`level=${level}`]),
    ...(workers === undefined ? [] : [`workers=${workers}`]),
  ];
  return [`COMPRESSION '${codec}'`, ...(detail.length > 0 ? [`COMPRESSION_DETAIL '${detail.join(",")}'`] : [])];
}

/**
 * The command. The server does not wait for its archiver (WAIT 0), because the agent waits for the WAL itself; it checks
 * page checksums, writes tablespace_map and reports progress.
 */
export function baseBackupStatement(options: BaseBackupOptions): string {
  const { label, checkpoint, maxRateKib, serverCompression, incremental = false } = options;
  const parts = [
    `LABEL ${quoteString(label)}`,
    `CHECKPOINT '${checkpoint}'`,
    "PROGRESS",
    "WAIT 0",
    "TABLESPACE_MAP",
    "MANIFEST 'yes'",
    `MANIFEST_CHECKSUMS '${options.manifestChecksums ?? "CRC32C"}'`,
    ...(maxRateKib === undefined ? [] : [`MAX_RATE ${maxRateKib}`]),
    ...(serverCompression ? compressionOptions(serverCompression) : []),
    ...(incremental ? ["INCREMENTAL"] : []),
  ];
  return `BASE_BACKUP (${parts.join(", ")})`;
}
