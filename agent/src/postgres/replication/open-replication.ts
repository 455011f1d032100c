import { fail } from "@coppice/proto/kit/failure";
import { parseLsn } from "@coppice/proto/kit/wal/lsn";
import { defaultAnswerMs, logIn, logOut } from "../connect.ts";
import type { ResolvedEndpoint } from "../endpoint.ts";
import { type BaseBackupResult, type BaseBackupSink, runBaseBackup } from "./base-backup.ts";
import type { BaseBackupOptions } from "./base-backup-statement.ts";
import { prepareCancel } from "./cancel-request.ts";
import { answered, takeLine } from "./line.ts";
import { toReplicationFailure } from "./replication-failure.ts";
import { textOf } from "./rows.ts";
import { type Ask, createSlot, dropSlot, readSlot, type Slot, type SlotOptions } from "./slots.ts";
import { parseSettingMs } from "./status-update.ts";
import { runUploadManifest } from "./upload-manifest.ts";
import { runWalStream, type WalStream, type WalStreamOptions } from "./wal-stream.ts";

/** How a replication connection is opened. */
export interface ReplicationOptions {
  /** Ends the connection and what it runs, on the server too, when it is aborted. */
  readonly signal: AbortSignal;
  /** 10 s when left out. */
  readonly connectTimeoutMs?: number;
  /**
   * After how long without an answer to a command that a sound server answers at once it counts as hung, and the connection
   * is closed; 1 min when left out.
   */
  readonly answerMs?: number | undefined;
}

/** Which cluster answers, and how far it is. */
export interface SystemIdentity {
  readonly systemIdentifier: string;
  readonly timeline: number;
  /** The end of the WAL that is flushed there, or received and replayed on a standby. */
  readonly lsn: bigint;
}

/**
 * A physical replication connection; it runs one command at a time. Every call fails as a query of `openConnection`
 * does, or with the signal's reason; what else it fails with is said there. After an error of the server the connection
 * is as good as before, save that its temporary slots are gone, also after a backup whose pages failed their checksums.
 */
export interface ReplicationConnection extends AsyncDisposable {
  readonly endpoint: ResolvedEndpoint;
  identify(): Promise<SystemIdentity>;
  /** A setting as SHOW prints it. */
  show(name: string): Promise<string>;
  /** The history file of a timeline later than 1. */
  timelineHistory(timeline: number): Promise<{ readonly fileName: string; readonly content: Buffer }>;
  /** Fails with SLOT_EXISTS, SLOTS_EXHAUSTED. */
  createSlot(name: string, options: SlotOptions): Promise<Slot>;
  /** Undefined when there is none. */
  readSlot(name: string): Promise<Slot | undefined>;
  /** Fails with SLOT_MISSING, SLOT_IN_USE. */
  dropSlot(name: string): Promise<void>;
  /**
   * Takes a base backup. Fails with SERVER_COMPRESSION_MISSING (nothing was sent, ask again without), INCREMENTAL_REFUSED
   * (nothing was sent, take a full one), CLUSTER_UNREACHABLE also for a server that falls silent in the middle, or what
   * the sink rejected with. Pages that fail their checksums are a result.
   */
  baseBackup(options: BaseBackupOptions, sink: BaseBackupSink): Promise<BaseBackupResult>;
  /**
   * Sends a parent's manifest for an incremental backup, from 17 on. Fails with INCREMENTAL_REFUSED, and for a server that
   * takes nothing of it for as long as one may be silent in the middle of a backup.
   */
  uploadManifest(source: AsyncIterable<Uint8Array>, options?: Pick<BaseBackupOptions, "silenceMs">): Promise<void>;
  /**
   * Starts streaming, and gives the stream when the server agrees. Fails with SLOT_MISSING, SLOT_IN_USE,
   * SLOT_INVALIDATED; the server finds out later that the WAL is gone, so WAL_REMOVED, and before 18 SLOT_INVALIDATED
   * too, is how the stream ends.
   */
  startReplication(options: WalStreamOptions): Promise<WalStream>;
}

const longestIntervalMs = 10_000;
const defaultSilenceMs = 60_000;
/** A server that reads a slow disk may be silent for longer than one that has nothing to say. */
const leastBackupSilenceMs = 120_000;

/**
 * Opens a physical replication connection as the endpoint says. Fails as `openConnection` does, and with
 * REPLICATION_REFUSED or SENDERS_EXHAUSTED. A password file has to have a line for the database `replication`, as for
 * libpq's own programs.
 */
export async function openReplication(
  endpoint: ResolvedEndpoint,
  { signal, answerMs = defaultAnswerMs, ...options }: ReplicationOptions,
): Promise<ReplicationConnection> {
  signal.throwIfAborted();
  const login = { ...options, signal, database: "replication", isReplication: true };
  const { client, key } = await logIn(endpoint, login).catch((error: unknown) => {
    throw signal.aborted ? signal.reason : toReplicationFailure(error, endpoint, "login");
  });
  const cancel = prepareCancel(endpoint, client.connection.stream, key);
  const line = takeLine(client, (trouble) => toReplicationFailure(trouble, endpoint, "command"));
  const onAbort = () => {
    line.cut(signal.reason);
    void cancel();
  };
  signal.addEventListener("abort", onAbort, { once: true });
  // Aborted while it logged in.
  if (signal.aborted) onAbort();

  const ask: Ask = async (command, asked = "command", slot = "") => {
    const { results, error } = await answered(line.run(command), { line, endpoint, answerMs });
    if (error) throw toReplicationFailure(error, endpoint, asked, slot);
    return [...results];
  };
  const askOne = async (command: string) => {
    const [[row] = []] = await ask(command);
    return row;
  };
  async function show(name: string): Promise<string> {
    if (!/^[a-z_][a-z0-9_.]*$/i.test(name)) fail("INVALID_FIELD", `${JSON.stringify(name)} is no setting's name`);
    const [value] = [...((await askOne(`SHOW ${name}`)) ?? new Map<string, Buffer>()).values()];
    return value?.toString("utf8") ?? "";
  }

  /** How long a server may be silent that takes or gives a backup. */
  async function backupSilence({ silenceMs }: Pick<BaseBackupOptions, "silenceMs">): Promise<number> {
    return silenceMs ?? Math.max(parseSettingMs(await show("wal_sender_timeout")), leastBackupSilenceMs);
  }

  return {
    endpoint,
    show,
    async identify() {
      const row = await askOne("IDENTIFY_SYSTEM");
      return {
        systemIdentifier: textOf(row, "systemid"),
        timeline: Number(textOf(row, "timeline")),
        lsn: parseLsn(textOf(row, "xlogpos")),
      };
    },
    async timelineHistory(timeline) {
      const row = await askOne(`TIMELINE_HISTORY ${timeline}`);
      return { fileName: textOf(row, "filename"), content: row?.get("content") ?? Buffer.alloc(0) };
    },
    createSlot: (name, slotOptions) => createSlot(ask, name, slotOptions),
    readSlot: (name) => readSlot(ask, name),
    dropSlot: (name) => dropSlot(ask, name),
    async baseBackup(backup, sink) {
      const silenceMs = await backupSilence(backup);
      return await runBaseBackup(line, endpoint, { ...backup, silenceMs }, sink);
    },
    async uploadManifest(source, upload = {}) {
      const silenceMs = await backupSilence(upload);
      const error = await runUploadManifest(line, endpoint, { source, silenceMs });
      if (error) throw toReplicationFailure(error, endpoint, "manifest");
    },
    async startReplication(stream) {
      const timeoutMs = parseSettingMs(await show("wal_sender_timeout"));
      const silenceMs = stream.silenceMs ?? (timeoutMs || defaultSilenceMs);
      const statusIntervalMs = stream.statusIntervalMs ?? Math.min(longestIntervalMs, Math.ceil(silenceMs / 3));
      const slot = stream.slot === undefined ? undefined : await readSlot(ask, stream.slot);
      const isSlotEmpty = slot !== undefined && slot.restartLsn === undefined;
      return runWalStream(line, endpoint, { ...stream, silenceMs, statusIntervalMs, isSlotEmpty });
    },
    async [Symbol.asyncDispose]() {
      signal.removeEventListener("abort", onAbort);
      await logOut(client);
    },
  };
}
