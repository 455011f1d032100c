// Archiving of one cluster by its archive_command, from its beginning to its end: long because it is where server, socket,
// repository, index and ledger meet; each of them is a file of its own.
import { mkdir, realpath, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { durationMs } from "@bufbuild/protobuf/wkt";
import { backoffMs } from "@coppice/proto/kit/backoff";
import { Failure, fail, failureToDetail, isFailure, toFailure } from "@coppice/proto/kit/failure";
import { raceSignal } from "@coppice/proto/kit/race";
import { sleep } from "@coppice/proto/kit/sleep";
import { historyName } from "@coppice/proto/kit/wal/segment";
import { openConnection, type PostgresConnection } from "../../postgres/connect.ts";
import { openReplication } from "../../postgres/replication/open-replication.ts";
import { resolveEndpoint } from "../../postgres/endpoint.ts";
import { isShared, requireSharedMark } from "../../repository/shared-mark.ts";
import { storageAccess } from "../../repository/storage-access.ts";
import { openStorage } from "../../storage/open.ts";
import { findShim } from "../fetch/open-replay.ts";
import { type ArchiveOptions, runArchive, type RunningArchive } from "../receive/archive.ts";
import { openAnchorShelf } from "../anchors/anchor-shelf.ts";
import { type Anchor, openLedger } from "../receive/ledger.ts";
import { slotOf } from "../receive/slot-name.ts";
import { watchServer } from "../receive/watch-server.ts";
import { openArchiveIndex } from "../store/archive-index.ts";
import type { WalExtent } from "../store/extent.ts";
import { listExtents } from "../store/list-extents.ts";
import { formatCommand, releaseCommand } from "./archive-command.ts";
import { type ArchiverState, readArchiverState } from "./archiver-state.ts";
import { archiverMessage, type Refusal } from "./archiver-message.ts";
import { dropIdleSlot, followStored, waitForHandOver } from "./hand-over.ts";
import { holdStorage } from "./held-storage.ts";
import { type LookAhead, openLookAhead } from "./look-ahead.ts";
import { type Offer, openPushSocket, pushSocketPath } from "./push-socket.ts";
import { pgWalPath, storeOffered, type StoredFile } from "./store-offered.ts";
import { supervise } from "./supervise.ts";

/** What archiving by archive_command is run with. */
export interface PushOptions extends ArchiveOptions {
  /** Folder of the socket that the server's archive_command names. */
  readonly socketFolder: string;
}

const defaultMaxAgeMs = 60_000;
const defaultLevel = 3;
const backoff = { baseMs: 200, capMs: 5_000 };
/**
 * A server that is told no asks again at once three times, and then after a minute; one that shuts down waits for all
 * three.
 */
const patienceMs = 20_000;
const lookEveryMs = 100;
const withdrawMs = 30_000;

/** The server, once it was seen. */
interface SeenServer {
  readonly state: ArchiverState;
  /** Names of its data directory, links resolved and not. */
  readonly directories: readonly string[];
  readonly owner: { readonly uid: number; readonly gid: number };
}

/** Takes files once the stream that was before it has come to its end. */
interface Taking {
  readonly ahead: LookAhead;
  readonly storeAt: (path: string, name: string, uid: number | undefined) => Promise<StoredFile>;
}

/**
 * Archives a cluster's WAL by its archive_command, which hands each file to a socket: the server keeps in pg_wal what is not
 * durable in the repository. A stream that archived before goes on until there is no hole between the two. Trouble is
 * reported, and it tries again until the signal aborts.
 */
export function runPush(options: PushOptions): RunningArchive {
  const { archive, signal, log, folder, socketFolder } = options;
  const { systemIdentifier, settings, repository } = archive;
  const ledger = openLedger({
    clusterId: archive.clusterId,
    repositoryId: repository?.repositoryId ?? "",
    systemIdentifier,
  });
  const endpoint = async () => {
    const password = options.secret(archive.connection?.passwordSecret ?? "");
    return await resolveEndpoint(archive.connection?.endpoint, password, options.clientFiles);
  };
  const slot = slotOf(archive);
  const socket = pushSocketPath(socketFolder);
  const maxAgeMs = settings?.maxAge ? durationMs(settings.maxAge) : defaultMaxAgeMs;
  const encoding = { level: settings?.compressionLevel || defaultLevel, recipients: repository?.recipients ?? [] };
  const seen = Promise.withResolvers<SeenServer>();
  let server: SeenServer | undefined;
  let command = "";
  /** What archives by the replication protocol, as long as the server's archive_command does not. */
  let stream: RunningArchive | undefined;
  let taking: Taking | undefined;
  let isCommandSet = false;
  let commandSince: { readonly insertLsn: bigint; readonly segmentBytes: bigint } | undefined;
  let newest: WalExtent | undefined;
  let refusal: Refusal | undefined;
  let serverTrouble: Failure | undefined;
  let storeTrouble: Failure | undefined;

  function tell(): void {
    ledger.stand({
      trouble: storeTrouble ?? serverTrouble ?? (taking && server ? troubleOf(server.state) : undefined),
    });
    stream?.repeat();
  }

  async function onLook(
    state: ArchiverState,
    { hasSlot, isCommandSet: isSet }: { readonly hasSlot: boolean; readonly isCommandSet: boolean },
    connection: PostgresConnection,
  ): Promise<void> {
    const { timeline, insertLsn, segmentBytes, dataDirectory } = state;
    if (dataDirectory === "")
      fail(
        "PRIVILEGE_MISSING",
        "the role may not see where the server's data directory is, which tells it from a clone",
        {
          hint: "as a superuser: GRANT pg_read_all_settings TO the role that the cluster is protected with",
        },
      );
    const isFirst = server === undefined;
    server = { state, ...(await seeDirectory(dataDirectory)) };
    isCommandSet = isSet;
    if (isSet && insertLsn !== undefined) commandSince ??= { insertLsn, segmentBytes };
    ledger.stand({ segmentBytes, ...(timeline === undefined ? {} : { timeline }) });
    if (hasSlot && isFirst) stream = startStream();
    if (hasSlot && taking) await dropIdleSlot(connection, slot);
    seen.resolve(server);
    if (taking && timeline !== undefined) await keepHistory(timeline);
    tell();
  }

  let ending = new AbortController();
  function startStream(): RunningArchive {
    ending = new AbortController();
    return runArchive({ ...options, signal: AbortSignal.any([signal, ending.signal]) });
  }

  const kept = new Set<number>();
  /** A timeline that began before the server archived to here was told to somebody else, or to nobody. */
  async function keepHistory(timeline: number): Promise<void> {
    if (timeline === 1 || kept.has(timeline) || !taking || !server) return;
    const name = historyName(timeline);
    const { storeAt } = taking;
    try {
      note(await storeAt(pgWalPath(server.state.dataDirectory, name), name, server.owner.uid));
    } catch (error) {
      if (!isFailure(error, "WAL_FILE_UNREADABLE")) throw error;
      await using replication = await openReplication(await endpoint(), { signal });
      const path = join(folder, "offered", name);
      await writeFile(path, (await replication.timelineHistory(timeline)).content, { mode: 0o600 });
      note(await storeAt(path, name, undefined));
      await rm(path);
    }
  }

  function note({ run, history }: StoredFile): void {
    if (history) {
      kept.add(history.timeline);
      ledger.addHistory(history.timeline, history.content);
    }
    if (run.endLsn > run.startLsn) stand(run);
  }
  /** What is offered once more, or is left of a timeline before, does not set it back. */
  function stand(run: WalExtent): void {
    ledger.addRun(run);
    if (newest && (run.timeline < newest.timeline || (run.timeline === newest.timeline && run.endLsn <= newest.endLsn)))
      return;
    newest = run;
    ledger.stand({ timeline: run.timeline, receivedLsn: run.endLsn, storedLsn: run.endLsn });
  }

  function refuse(failure: Failure): never {
    refusal = { failure, time: new Date() };
    log.warn({ cluster: archive.clusterName, reason: failure.reason }, failure.message);
    tell();
    throw failure;
  }

  async function whenTaking(untilMs: number): Promise<Taking> {
    for (;;) {
      if (taking) return taking;
      if (performance.now() > untilMs)
        fail("WAL_NOT_READY", "WAL is still received over the replication protocol: offer it again");
      await sleep(lookEveryMs, signal);
    }
  }

  async function take({ name, directory, path }: Offer): Promise<void> {
    if (!server) return fail("WAL_NOT_READY", "the agent has not seen the server yet");
    const { directories, state } = server;
    if (!directories.includes(directory))
      refuse(
        new Failure(
          "WAL_FOREIGN",
          `${name} was offered out of ${directory}, and ${archive.clusterName} is in ${state.dataDirectory}`,
          {
            hint: "a clone has to archive nowhere, or as a cluster of its own: ALTER SYSTEM RESET archive_command there",
          },
        ),
      );
    const untilMs = performance.now() + patienceMs;
    const { ahead, storeAt } = await whenTaking(untilMs);
    for (let attempt = 0; ; attempt++) {
      try {
        note(path === undefined ? await ahead.take(name) : await storeAt(path, name, undefined));
        storeTrouble = undefined;
        return tell();
      } catch (error) {
        signal.throwIfAborted();
        const failure = toFailure(error);
        if (failure.reason === "WAL_FILE_UNREADABLE") throw failure;
        if (attempt === 0)
          log.warn(
            {
              cluster: archive.clusterName,
              reason: failure.reason,
              ...(failure.reason === "INTERNAL" ? { err: error } : {}),
            },
            `${name} is not stored: ${failure.message}`,
          );
        storeTrouble = failure;
        tell();
        const pauseMs = backoffMs(attempt, backoff);
        if (!failure.reason.startsWith("REPOSITORY_") || performance.now() + pauseMs > untilMs) throw failure;
        await sleep(pauseMs, signal);
      }
    }
  }

  async function archiveByCommand(): Promise<void> {
    await using stack = new AsyncDisposableStack();
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const first = await raceSignal(seen.promise, signal);
    stack.use(
      await openPushSocket({
        folder: socketFolder,
        owner: first.owner,
        spool: join(folder, "offered"),
        mostBytes: () => Number(first.state.segmentBytes),
        take,
        signal,
      }),
    );
    if (stream) {
      await waitForHandOver({ since: () => commandSince, storedLsn: followStored(stream), signal });
      ending.abort();
      await stream.ended;
    }
    const { state, owner } = first;
    const index = stack.use(await openArchiveIndex(join(folder, "index")));
    const storage = stack.use(holdStorage(() => openTarget(options)));
    const { segmentBytes, dataDirectory } = state;
    if (index.extents.length === 0)
      await storage
        .use((opened) => listExtents(opened, { place: archive, segmentBytes, signal }))
        .then((found) => index.addFound(found));
    for (const extent of index.extents) stand(extent);
    const storing = { storage, index, place: archive, server: { systemIdentifier, segmentBytes }, encoding, signal };
    const pathOf = (name: string) => pgWalPath(dataDirectory, name);
    const storeAt = (path: string, name: string, uid: number | undefined) => storeOffered({ path, name, uid }, storing);
    const ahead = openLookAhead({
      statusFolder: join(dataDirectory, "pg_wal", "archive_status"),
      store: (name) => storeAt(pathOf(name), name, owner.uid),
      pathOf,
      signal,
    });
    stack.defer(() => ahead.settled());
    taking = { ahead, storeAt };
    stack.defer(() => void (taking = undefined));
    stream = undefined;
    tell();
    log.info({ cluster: archive.clusterName, socket }, "WAL is taken from the server's archive_command");
    const anchors = openAnchorShelf(log);
    const kept = { use: storage.use.bind(storage), reach: () => index.extents.at(-1)?.endLsn };
    stack.use(anchors.keepIn(kept, archive, signal));
    const onAnchor = (anchor: Anchor) => {
      ledger.addAnchor(anchor);
      anchors.offer(anchor);
    };
    await watchServer({ endpoint, slot: "", ledger, onAnchor, log, systemIdentifier }, signal);
  }

  async function keepArchiving(): Promise<void> {
    for (let attempt = 0; !signal.aborted; attempt++) {
      try {
        await archiveByCommand();
      } catch (error) {
        if (signal.aborted) return;
        storeTrouble = toFailure(error);
        log.warn(
          {
            cluster: archive.clusterName,
            reason: storeTrouble.reason,
            err: storeTrouble.reason === "INTERNAL" ? error : undefined,
          },
          `WAL is not archived: ${storeTrouble.message}`,
        );
        tell();
      }
      await sleep(backoffMs(attempt, { baseMs: 500, capMs: 30_000 }), signal).catch(() => undefined);
    }
  }

  function onTrouble(trouble: Failure | undefined): void {
    serverTrouble = trouble;
    tell();
  }
  async function superviseServer(): Promise<void> {
    try {
      command = formatCommand({ shim: await findShim(), socket });
    } catch (error) {
      return onTrouble(toFailure(error));
    }
    await supervise(
      {
        endpoint,
        systemIdentifier,
        slot,
        command,
        socket,
        maxAgeMs,
        onLook,
        onTrouble,
        log,
      },
      signal,
    );
  }

  return {
    report() {
      const report = stream ? stream.report() : ledger.report();
      if (!report || !server) return report;
      const isHandingOver = stream !== undefined;
      report.archiver = archiverMessage(server.state, { command, isCommandSet, isHandingOver, refusal });
      if (isHandingOver && serverTrouble) report.trouble ??= failureToDetail(serverTrouble);
      return report;
    },
    acknowledge: (number) => (stream ?? ledger).acknowledge(number),
    repeat: () => (stream ?? ledger).repeat(),
    ended: Promise.all([keepArchiving(), superviseServer()]).then(() => stream?.ended),
    async withdraw() {
      const giveUp = AbortSignal.timeout(withdrawMs);
      await using connection = await openConnection(await endpoint(), { signal: giveUp });
      const state = await readArchiverState(connection);
      if (state.systemIdentifier === systemIdentifier) await releaseCommand(connection, state, socket);
    },
  };
}

async function openTarget(options: ArchiveOptions) {
  const { archive, signal } = options;
  const target = archive.repository ?? fail("INVALID_FIELD", "the archive has no repository");
  const location = target.location ?? fail("INVALID_FIELD", "the archive's repository has no location");
  const storage = await openStorage(location, storageAccess(target, { ...options, operationId: archive.clusterId }));
  try {
    if (isShared(target)) await requireSharedMark(storage, target, signal);
    return storage;
  } catch (error) {
    await storage[Symbol.asyncDispose]();
    throw error;
  }
}

/** The server's data directory by each of its names, and whose it is. */
async function seeDirectory(dataDirectory: string): Promise<Omit<SeenServer, "state">> {
  try {
    const { uid, gid } = await stat(dataDirectory);
    return { directories: [dataDirectory, await realpath(dataDirectory)], owner: { uid, gid } };
  } catch (cause) {
    throw new Failure("WAL_FILE_UNREADABLE", `the agent does not see ${dataDirectory} on its host`, {
      hint: "archive_command hands WAL to an agent on the server's own host: run it there, or archive with `--mode stream`",
      cause,
    });
  }
}

function troubleOf({ mode }: ArchiverState): Failure | undefined {
  if (mode !== "off") return undefined;
  return new Failure("ARCHIVE_MODE_OFF", "archive_mode is off: the server hands out no WAL until it is restarted");
}
