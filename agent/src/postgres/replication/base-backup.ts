import type { Readable } from "node:stream";
import { Failure } from "@coppice/proto/kit/failure";
import { parseLsn } from "@coppice/proto/kit/wal/lsn";
import type { DatabaseError } from "pg";
import { formatAddress, type ResolvedEndpoint } from "../endpoint.ts";
import { type ArchiveFeed, openArchiveFeed } from "./archive-feed.ts";
import { type BaseBackupOptions, baseBackupStatement } from "./base-backup-statement.ts";
import type { Line } from "./line.ts";
import { isCompressionRefusal, toReplicationFailure } from "./replication-failure.ts";
import { type Row, textOf } from "./rows.ts";
import { watchForAnswers } from "./watch-for-answers.ts";

/** A tablespace besides the data directory. */
export interface BackupTablespace {
  readonly oid: number;
  readonly location: string;
  /** Rounded to KiB by the server. */
  readonly sizeBytes: bigint | undefined;
}

/** What the server says before the first byte. */
export interface BackupStart {
  readonly lsn: bigint;
  readonly timeline: number;
  readonly tablespaces: readonly BackupTablespace[];
  /** Of the data directory without tablespaces; together they are what progress counts up to. */
  readonly dataDirectoryBytes: bigint | undefined;
}

/** One archive: the data directory or a tablespace. */
export interface BackupArchive {
  /** As the server names it: base.tar, 16385.tar.zst. */
  readonly name: string;
  /** Undefined for the data directory. */
  readonly tablespaceOid: number | undefined;
  /** Its bytes; reading slowly slows the server down. */
  readonly content: Readable;
}

/** Who takes the backup. Each promise is waited for before the next call; a rejection ends the backup with it. */
export interface BaseBackupSink {
  onStart?(start: BackupStart): void | Promise<void>;
  /** Settles when the archive was read to its end; called for the data directory last. */
  onArchive(archive: BackupArchive): Promise<void>;
  /** The manifest, not compressed, after all archives. */
  onManifest(content: Readable): Promise<void>;
  /** How many bytes of files, before compression, the server has read; as often as it says so, up to hundreds a second. */
  onProgress?(doneBytes: number): void;
}

/** What a backup came to. */
export interface BaseBackupResult {
  readonly stopLsn: bigint;
  readonly timeline: number;
  /**
   * How many pages failed their checksums, 0 for a sound backup. Everything was handed over nevertheless, so that the
   * caller may decide to keep it; `toChecksumFailure` says it as a failure.
   */
  readonly checksumFailures: number;
  /** Files with such pages as the server's warnings name them, the first 100. */
  readonly damagedFiles: readonly string[];
}

const dataCorrupted = "XX001";
const keptFiles = 100;
const decode = { archive: 0x6e, manifest: 0x6d, data: 0x64, progress: 0x70 } as const;

function parseStart(position: readonly Row[], spaces: readonly Row[]): BackupStart {
  const sizeOf = (row: Row) => (row.get("size") ? BigInt(textOf(row, "size")) * 1024n : undefined);
  const dataDirectory = spaces.find((row) => row.get("spcoid") === undefined);
  return {
    lsn: parseLsn(textOf(position[0], "recptr")),
    timeline: Number(textOf(position[0], "tli")),
    tablespaces: spaces
      .filter((row) => row !== dataDirectory)
      .map((row) => ({
        oid: Number(textOf(row, "spcoid")),
        location: textOf(row, "spclocation"),
        sizeBytes: sizeOf(row),
      })),
    dataDirectoryBytes: dataDirectory && sizeOf(dataDirectory),
  };
}

/** Counts what the server's warnings say, whatever language it speaks: each quotes the file that it is about. */
function watchChecksums() {
  const files = new Set<string>();
  let warnings = 0;
  let lastNumber = 0;
  return {
    onNotice(text: string): void {
      const file = /["“„«]\s?([^"”“»]+?)\s?["”“»]/.exec(text)?.[1];
      if (file) {
        warnings += 1;
        if (files.size < keptFiles) files.add(file);
        // With a single damaged page there is no line that sums them up.
        lastNumber = 0;
      } else lastNumber = Number(/\d+/.exec(text)?.[0] ?? 0);
    },
    failures: () => Math.max(lastNumber, Math.min(warnings, 1)) || 1,
    files: () => [...files],
  };
}

/** A failure for a backup whose result tells of pages that failed their checksums. */
export function toChecksumFailure(result: BaseBackupResult, endpoint: ResolvedEndpoint): Failure {
  const { checksumFailures, damagedFiles } = result;
  const named = damagedFiles.slice(0, 3).join(", ");
  return new Failure(
    "BACKUP_CHECKSUM_FAILED",
    `${checksumFailures} pages of the server at ${formatAddress(endpoint)} failed their checksums${named && `: ${named}`}`,
    { metadata: { checksum_failures: String(checksumFailures) } },
  );
}

/** What the server refused; once it has begun to send, its errors are of the backup, not of how it was asked for. */
function toBackupFailure(
  error: DatabaseError,
  endpoint: ResolvedEndpoint,
  { options, hasBegun }: { readonly options: BaseBackupOptions; readonly hasBegun: boolean },
): Failure {
  if (hasBegun) return toReplicationFailure(error, endpoint, "backup");
  if (options.serverCompression && isCompressionRefusal(error)) {
    const { codec, workers } = options.serverCompression;
    const asked = workers === undefined ? codec : `${codec} and ${workers} thread${workers === 1 ? "" : "s"}`;
    const text = `the server at ${formatAddress(endpoint)} does not compress by ${asked}: ${error.message}`;
    const hint = "leave --compression-workers out: then it, or the agent, compresses as it can";
    return new Failure("SERVER_COMPRESSION_MISSING", text, workers === undefined ? {} : { hint });
  }
  return toReplicationFailure(error, endpoint, options.incremental ? "incremental" : "backup");
}

/**
 * Takes a base backup over the line. Failures: see ReplicationConnection. The order on the wire: start and tablespaces
 * as result sets; one CopyOut with archives, data, progress and manifest; the stop position as a result set; and, when
 * pages failed their checksums, an error after all that.
 */
export async function runBaseBackup(
  line: Line,
  endpoint: ResolvedEndpoint,
  { silenceMs, ...options }: BaseBackupOptions & { readonly silenceMs: number },
  sink: BaseBackupSink,
): Promise<BaseBackupResult> {
  const checksums = watchChecksums();
  const results: (readonly Row[])[] = [];
  const feeds: ArchiveFeed[] = [];
  let consumers: Promise<void> = Promise.resolve();
  let kind = 0;
  let head: Buffer[] = [];

  /** Queues a call behind the one before; the server is stopped until it is made, for the bytes would pile up. */
  const inTurn = (call: () => void | Promise<void>) => {
    const release = line.hold();
    consumers = consumers.then(() => {
      release();
      return call();
    });
    consumers.catch((error: unknown) => {
      release();
      line.cut(error);
    });
  };
  const openFeed = (consume: (content: Readable) => Promise<void>) => {
    feeds.at(-1)?.end();
    const feed = openArchiveFeed(line);
    feeds.push(feed);
    inTurn(async () => {
      await consume(feed.content);
      if (!feed.content.readableEnded) throw new Error("an archive's consumer left off before its end");
    });
  };
  const readHead = (message: Buffer) => {
    if (kind === decode.progress) sink.onProgress?.(Number(message.readBigInt64BE(1)));
    else if (kind === decode.manifest) openFeed((content) => sink.onManifest(content));
    else {
      const name = message.toString("utf8", 1, message.indexOf(0));
      const oid = /^(\d+)\.tar/.exec(name)?.[1];
      openFeed((content) => sink.onArchive({ name, tablespaceOid: oid ? Number(oid) : undefined, content }));
    }
  };

  // Before it begins the server may be silent for as long as a checkpoint takes, and says how far it is ever after.
  const begun = new AbortController();
  watchForAnswers(endpoint, { ...options, signal: begun.signal }).catch((error: unknown) => {
    if (!begun.signal.aborted) line.cut(error);
  });
  const watch = setInterval(
    () => {
      if (results.length < 2 || line.isHeld() || performance.now() - line.lastHeardMs() <= silenceMs) return;
      const text = `the server at ${formatAddress(endpoint)} fell silent in the middle of the backup, for ${silenceMs} ms`;
      line.cut(new Failure("CLUSTER_UNREACHABLE", text));
    },
    Math.ceil(silenceMs / 10),
  );
  try {
    const { error } = await line.run(baseBackupStatement(options), {
      onNotice: (text) => checksums.onNotice(text),
      onResult: (rows) => {
        results.push(rows);
        if (results.length !== 2) return;
        begun.abort();
        inTurn(() => sink.onStart?.(parseStart(results[0] ?? [], rows)));
      },
      copiesPieces: true,
      onCopyPiece: (piece, isFirst, isLast) => {
        if (isFirst) kind = piece[0] ?? 0;
        if (kind === decode.data) feeds.at(-1)?.put(isFirst ? piece.subarray(1) : piece);
        else {
          head = [...(isFirst ? [] : head), Buffer.from(piece)];
          if (isLast) readHead(Buffer.concat(head));
        }
      },
      onCopyDone: () => feeds.at(-1)?.end(),
    });
    const stop = results[2]?.[0];
    if (!stop || (error && error.code !== dataCorrupted))
      throw error
        ? toBackupFailure(error, endpoint, { options, hasBegun: results.length > 0 })
        : new Error("the backup ended without its stop position");
    await consumers;
    return {
      stopLsn: parseLsn(textOf(stop, "recptr")),
      timeline: Number(textOf(stop, "tli")),
      checksumFailures: error ? checksums.failures() : 0,
      damagedFiles: error ? checksums.files() : [],
    };
  } catch (error) {
    for (const feed of feeds) feed.fail(error);
    // Consumers end by the streams' errors; the reason that counts is the one that came first.
    await consumers.catch(() => {});
    throw error;
  } finally {
    begun.abort();
    clearInterval(watch);
  }
}
