// Archiving of one cluster by its archive_command, from its beginning to its end: long because it is where server, socket,
// repository, index and ledger meet; each of them is a file of its own.
import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { durationMs } from "@bufbuild/protobuf/wkt";
import { backoffMs } from "@coppice/proto/kit/backoff";
import { Failure, fail, failureToDetail, isFailure, toFailure } from "@coppice/proto/kit/failure";
import { raceSignal } from "@coppice/proto/kit/race";
import { sleep } from "@coppice/proto/kit/sleep";
import { historyName } from "@coppice/proto/kit/wal/segment";
import type { PostgresConnection } from "../../postgres/connect.ts";
import { openReplication } from "../../postgres/replication/open-replication.ts";
import { resolveEndpoint } from "../../postgres/endpoint.ts";
import { findShim } from "../fetch/open-replay.ts";
import { type ArchiveOptions, runArchive, type RunningArchive } from "../receive/archive.ts";
import { openAnchorShelf } from "../anchors/anchor-shelf.ts";
import { type Anchor, openLedger } from "../receive/ledger.ts";
import { slotOf } from "../receive/slot-name.ts";
import { watchServer } from "../receive/watch-server.ts";
import { openPress } from "../press/press.ts";
import { openArchiveIndex } from "../store/archive-index.ts";
import { hasArchived } from "../set-back/has-archived.ts";
import { readRefusal, refusalFailure } from "../set-back/refusal.ts";
import { requireArchivedServer } from "../set-back/require-archived-server.ts";
import { openFollow } from "../set-back/follow.ts";
import { noteNewSetBack } from "../set-back/set-back-mark.ts";
import { watchWalEnd } from "../set-back/watch-wal-end.ts";
import { lastOf, type WalExtent } from "../store/extent.ts";
import { findStored } from "../store/find-stored.ts";
import { guardStorage, openGrantCheck, requireGrantedTimeline } from "../store/grant.ts";
import { findArchived } from "../store/list-extents.ts";
import { openArchiveTarget } from "../store/open-target.ts";
import { walEncoding } from "../store/wal-codec.ts";
import { formatCommand } from "./archive-command.ts";
import type { ArchiverState } from "./archiver-state.ts";
import { archiverMessage, type Refusal } from "./archiver-message.ts";
import { type SeenServer, seeServer } from "./check-offered.ts";
import { openMaxAge } from "./max-age.ts";
import { dropIdleSlot, handedFrom, isHandedOver, waitForHandOver } from "./hand-over.ts";
import { holdStorage } from "./held-storage.ts";
import { inOrder, type LookAhead, openLookAhead } from "./look-ahead.ts";
import { type Offer, openPushSocket, pushSocketPath } from "./push-socket.ts";
import { pgWalPath, storeOffered, type StoredFile } from "./store-offered.ts";
import { type Seen, supervise } from "./supervise.ts";
import { archiverTrouble } from "./trouble/archiver-trouble.ts";
import { openHearing } from "./trouble/hearing.ts";

/** What archiving by archive_command is run with. */
export interface PushOptions extends ArchiveOptions {
  /** Folder of the socket that the server's archive_command names. */
  readonly socketFolder: string;
}

const defaultMaxAgeMs = 60_000;
const backoff = { baseMs: 200, capMs: 5_000 };
/**
 * A server that is told no asks again at once three times, and then after a minute; one that shuts down waits for all
 * three.
 */
const patienceMs = 20_000;
const lookEveryMs = 100;

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
    clusterName: archive.clusterName,
    repositoryId: repository?.repositoryId ?? "",
    systemIdentifier,
    settings,
  });
  const endpoint = async () => {
    const password = options.secret(archive.connection?.passwordSecret ?? "");
    return await resolveEndpoint(archive.connection?.endpoint, password, options.clientFiles);
  };
  const slot = slotOf(archive);
  const socket = pushSocketPath(socketFolder);
  const maxAge = openMaxAge(settings?.maxAge ? durationMs(settings.maxAge) : defaultMaxAgeMs);
  const encoding = walEncoding(archive);
  const seen = Promise.withResolvers<SeenServer>();
  let server: SeenServer | undefined;
  /** What it said of its archiving, also where it could not be seen whole. */
  let asked: ArchiverState | undefined;
  let command = "";
  /** What archives by the replication protocol, as long as the server's archive_command does not. */
  let stream: RunningArchive | undefined;
  let taking: Taking | undefined;
  let isCommandSet = false;
  let commandSince: { readonly insertLsn: bigint; readonly segmentBytes: bigint } | undefined;
  let slotLsn: bigint | undefined;
  const handOver = { since: () => commandSince, slotLsn: () => slotLsn };
  let newest: WalExtent | undefined;
  /** The newest one of the look before: what the server says was asked later. */
  let lookedAt: WalExtent | undefined;
  let refusal: Refusal | undefined;
  const hearing = openHearing();
  let serverTrouble: Failure | undefined;
  let storeTrouble: Failure | undefined;
  let hasStored = false;
  let refused: Failure | undefined;
  const requireNotSetBack = watchWalEnd();

  function tell(): void {
    ledger.stand({
      trouble:
        storeTrouble ??
        serverTrouble ??
        refused ??
        (taking && server ? archiverTrouble(server.state, hearing.heard()) : undefined),
    });
    stream?.touch?.();
  }

  async function seeRefusal(timeline: number | undefined): Promise<void> {
    const standing = timeline === undefined ? undefined : await readRefusal(folder, timeline);
    refused = standing && refusalFailure(standing);
  }

  async function onLook(
    state: ArchiverState,
    { hasSlot, slotLsn: heldLsn, isCommandSet: isSet }: Seen,
    connection: PostgresConnection,
  ): Promise<void> {
    const { timeline, insertLsn, flushedLsn, segmentBytes } = state;
    if (timeline !== undefined) requireGrantedTimeline(archive, timeline);
    if (timeline !== undefined && flushedLsn !== undefined) requireNotSetBack({ timeline, lsn: flushedLsn }, lookedAt);
    lookedAt = newest;
    await seeRefusal(timeline);
    const isFirst = server === undefined;
    asked = state;
    isCommandSet = isSet;
    ledger.stand({ segmentBytes, ...(timeline === undefined ? {} : { timeline }) });
    hearing.count(state.failedCount);
    server = await seeServer(state, connection.endpoint.user);
    slotLsn = heldLsn;
    if (!isSet) commandSince = undefined;
    else if (insertLsn !== undefined) commandSince ??= { insertLsn, segmentBytes };
    if (hasSlot && isFirst) stream = startStream();
    if (hasSlot && taking && (heldLsn === undefined || isHandedOver(handOver))) await dropIdleSlot(connection, slot);
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

  function note({ run, history, commits }: StoredFile): void {
    if (history) {
      kept.add(history.timeline);
      ledger.addHistory(history.timeline, history.content);
    }
    for (const one of commits) ledger.addCommits(one);
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
    for (let attempt = 0; ; attempt++) {
      // It may have come to its end meanwhile, and begun anew.
      const { ahead, storeAt } = await whenTaking(untilMs);
      try {
        note(path === undefined ? await ahead.take(name) : await storeAt(path, name, undefined));
        storeTrouble = undefined;
        hasStored = true;
        if (refused) await seeRefusal(server.state.timeline);
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
        await noteNewSetBack(folder, { before: storeTrouble, now: failure, log });
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
        take: (offered) => hearing.answer(() => take(offered)),
        signal,
      }),
    );
    hearing.begin();
    if (stream) {
      // The socket was all that could stand in the way beside the stream.
      storeTrouble = undefined;
      tell();
      await waitForHandOver({ ...handOver, signal });
      ending.abort();
      await stream.ended;
      stream = undefined;
    }
    const { state, owner } = first;
    const index = stack.use(await openArchiveIndex(join(folder, "index")));
    const storage = stack.use(holdStorage(() => openArchiveTarget(archive, options)));
    const { segmentBytes, dataDirectory } = state;
    const listed = { place: archive, segmentBytes, signal };
    const isFirst = index.isNew && archive.nothingArchived;
    const list = () => storage.use((opened) => findArchived(opened, { ...listed, isFirst }));
    await findStored(index, { folder, grant: archive.grant, list });
    const last = lastOf(index.extents, server?.state.timeline ?? 0);
    const beyond = await requireArchivedServer(last, { storage, endpoint, listed });
    const statusFolder = join(dataDirectory, "pg_wal", "archive_status");
    for (const extent of await inOrder(index.extents, { statusFolder, segmentBytes })) stand(extent);
    const press = stack.use(openPress());
    const grant = openGrantCheck(archive);
    const expected = { systemIdentifier, segmentBytes };
    const pathOf = (name: string) => pgWalPath(dataDirectory, name);
    const archived = { press, storage, index, place: archive, signal };
    const follow = openFollow({
      ...archived,
      folder,
      beyond,
      segmentBytes,
      hasArchived: (name) => hasArchived({ path: pathOf(name), name, uid: owner.uid }, archived),
    });
    const storing = { ...archived, grant, follow, server: expected, encoding };
    const storeAt = (path: string, name: string, uid: number | undefined) => storeOffered({ path, name, uid }, storing);
    const ahead = openLookAhead({
      statusFolder,
      store: (name) => storeAt(pathOf(name), name, owner.uid),
      pathOf,
      signal,
    });
    stack.defer(() => ahead.settled());
    taking = { ahead, storeAt };
    stack.defer(() => void (taking = undefined));
    storeTrouble = undefined;
    tell();
    log.info({ cluster: archive.clusterName, socket }, "WAL is taken from the server's archive_command");
    const anchors = openAnchorShelf(log);
    const kept = guardStorage(storage, grant, signal);
    stack.use(anchors.keepIn({ ...kept, reach: () => index.extents.at(-1)?.endLsn }, archive, signal));
    const onAnchor = (anchor: Anchor) => {
      ledger.addAnchor(anchor);
      anchors.offer(anchor);
    };
    const watched = { endpoint, slot: "", ledger, onAnchor, log, systemIdentifier };
    await watchServer({ ...watched, committedEnd: (...of) => maxAge.committedEnd(...of) }, signal);
  }

  async function keepArchiving(): Promise<void> {
    for (let attempt = 0; !signal.aborted; attempt++) {
      try {
        await archiveByCommand();
      } catch (error) {
        if (signal.aborted) return;
        const before = storeTrouble;
        storeTrouble = toFailure(error);
        await noteNewSetBack(folder, { before, now: storeTrouble, log });
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
    if (trouble) void noteNewSetBack(folder, { before: serverTrouble, now: trouble, log });
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
        maxAge,
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
      if (!report || !asked) return report;
      const isHandingOver = stream !== undefined;
      report.archiver = archiverMessage(asked, { command, isCommandSet, isHandingOver, refusal });
      const trouble = storeTrouble ?? serverTrouble;
      if (isHandingOver && trouble) report.trouble ??= failureToDetail(trouble);
      return report;
    },
    acknowledge: (number) => (stream ?? ledger).acknowledge(number),
    repeat: () => (stream ?? ledger).repeat(),
    heldFrom: () => (stream ? stream.heldFrom?.() : handedFrom(handOver)),
    pushes: () => taking !== undefined && isCommandSet && hasStored && storeTrouble === undefined,
    ended: Promise.all([keepArchiving(), superviseServer()]).then(() => stream?.ended),
  };
}
