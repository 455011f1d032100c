// One thing: the way of a part out of a cluster as it was into its place, each step of which takes back what came before it.
import { stat } from "node:fs/promises";
import { create } from "@bufbuild/protobuf";
import { type RecoverPartResult, RecoverPartResultSchema } from "@coppice/proto/gen/coppice/agent/v1/recover_part";
import type { RestorePhysicalResult } from "@coppice/proto/gen/coppice/agent/v1/restore_physical";
import { type WorkDone, WorkDoneSchema } from "@coppice/proto/gen/coppice/common/v1/progress";
import type { OnlyLive, TableDifference } from "@coppice/proto/gen/coppice/common/v1/table_difference";
import { fail, isFailure } from "@coppice/proto/kit/failure";
import { formatSize } from "@coppice/proto/kit/size";
import type { RestoreRequest } from "../logical/load-and-check.ts";
import { restoreDatabase } from "../logical/restore.ts";
import { findDatabase } from "../logical/staged-database.ts";
import { planScope } from "../logical/scope.ts";
import { openFileSource } from "../logical/source/file-source.ts";
import { inspectRestore, type RestoreGround } from "../physical/restore/inspect.ts";
import { findReserve } from "../physical/restore/directory/see-room.ts";
import { restorePhysical } from "../physical/restore/restore.ts";
import { loginsOf, openLogin, socketEndpoint } from "../physical/restore/settings/logins.ts";
import { scratchPort } from "../physical/restore/settings/scratch-settings.ts";
import { openConnection } from "../postgres/connect.ts";
import { type ResolvedEndpoint, resolveEndpoint } from "../postgres/endpoint.ts";
import { compareTables, type NamedTable } from "./compare-rows.ts";
import { dumpOut, keepDumped, openDumped } from "./dump-out.ts";
import { findOnlyLive } from "./only-live.ts";
import { isWhole, loadOf, lookAtPart, type Part } from "./part.ts";
import { putFileIntoPlace, settleFile, unfinishedFile } from "./part-file.ts";
import { makeScratch, removeScratch, removeServer } from "./scratch-folder.ts";
import { watchRoom } from "./watch-room.ts";

/** A part that is brought back, and who is told of it. */
export interface PartToRecover extends Part {
  readonly onProgress: (work: WorkDone) => void;
  readonly log: (line: string) => void;
  readonly onLeaving: (leaving: string) => void;
  /** As of a restore of a database: steps that settlePart needs to know. */
  readonly onStaged: RestoreRequest["onStaged"];
  readonly onInto: NonNullable<RestoreRequest["onInto"]>;
  /**
   * Records the result durably, while everything that proves it is still there; undefined takes it back. Of a file it is
   * recorded just before it gets its name.
   */
  readonly onDone: (result: RecoverPartResult | undefined) => Promise<void>;
}

/** Fails with the first thing that would have it refused. */
async function requireReady(part: PartToRecover): Promise<RestoreGround> {
  const ground = await inspectRestore(part.restore);
  const refused = [...ground.items, ...(await lookAtPart(part, ground))].find(({ failure }) => failure);
  if (refused?.failure) throw refused.failure;
  return ground;
}

async function recoverScratch(part: PartToRecover): Promise<RestorePhysicalResult> {
  const { restore, onProgress, log, onLeaving } = part;
  const recovered = await restorePhysical({
    ...restore,
    onProgress,
    log,
    onLeaving,
    // It is not what was asked for, only a way to it.
    onRestored: () => Promise.resolve(),
  });
  log(`recovered up to ${recovered.endLsn}, on a server that nobody else reaches`);
  return recovered;
}

/** As whom the scratch server lets the agent in, which it did while it recovered. */
async function findLogin(folder: string, { chain }: RestoreGround, signal: AbortSignal): Promise<ResolvedEndpoint> {
  const logins = loginsOf(chain.newest.content);
  const { connection, endpoint } = await openLogin(socketEndpoint(folder, scratchPort, logins), logins, signal);
  await connection[Symbol.asyncDispose]();
  return endpoint;
}

/** Of what was asked to be left free: WAL and the dump come out of it, and the last of it is the living server's. */
const keptShare = 4n;

/** What is wanted, out of the scratch server. */
interface Taken extends Compared {
  readonly recovered: RestorePhysicalResult;
  readonly tables: number;
}

/** Recovers the scratch server, dumps out of it what is wanted, and compares that; the server still runs then. */
async function takeOut(part: PartToRecover, ground: RestoreGround, dump: string): Promise<Taken> {
  const { command, places, restore, onProgress, log } = part;
  const { load, file, database, selection } = command;
  const reserve = await findReserve(ground.chain.newest.content.dataDirectory, places.data);
  using room = watchRoom({ folder: places.folder, leastBytes: reserve / keptShare, signal: restore.signal });
  const { signal } = room;
  const watched = { ...part, restore: { ...restore, signal } };
  const say = (doneBytes: bigint) =>
    onProgress(create(WorkDoneSchema, { phase: "dumping", item: database, doneBytes }));
  try {
    const recovered = await recoverScratch(watched);
    const scratch = await findLogin(places.socketFolder, ground, signal);
    say(0n);
    const dumped = await dumpOut({
      endpoint: scratch,
      major: ground.chain.major,
      database,
      selection,
      file: dump,
      isForPeople: file !== undefined,
      signal,
      onBytes: say,
      log,
    });
    if (load) await keepDumped(dump, dumped);
    const tables = await tablesOf(watched, dump);
    const compared = await compare(watched, scratch, tables);
    return { recovered, tables: tables.length, ...compared, warnings: [...dumped.warnings, ...compared.warnings] };
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  }
}

/** The tables whose rows are in the dump, of what was selected. */
async function tablesOf(part: PartToRecover, file: string): Promise<NamedTable[]> {
  const { command, restore } = part;
  const source = await openFileSource({ path: file, identities: undefined, signal: restore.signal });
  const scope = planScope(source, command.load ? command.selection : undefined);
  return (scope.entries ?? [])
    .filter(({ kind }) => kind === "TABLE DATA")
    .map(({ schema, name }) => ({ schema, name }));
}

/** What came of comparing. */
interface Compared {
  readonly differences: TableDifference[];
  readonly warnings: string[];
  readonly onlyLive?: OnlyLive | undefined;
  /** Oid of the live database that it was compared with. */
  readonly liveOid?: number | undefined;
}

/** What differs from the live database, where it can be said; whatever stands in its way is a warning and no failure. */
async function compare(
  part: PartToRecover,
  scratch: ResolvedEndpoint,
  tables: readonly NamedTable[],
): Promise<Compared> {
  const { command, restore, livePassword, files, onProgress, log } = part;
  const { live, liveDatabase, liveProblem, database } = command;
  if (!live) {
    const why = liveProblem === "" ? [] : [`rows were not compared with live ones: ${liveProblem}`];
    return { differences: [], warnings: why };
  }
  try {
    const endpoint = await resolveEndpoint(live.endpoint, livePassword, files);
    const sides = { live: { endpoint, database: liveDatabase }, recovered: { endpoint: scratch, database } };
    const liveOid = await findOid(endpoint, liveDatabase, restore.signal);
    const isWanted = isWhole(command) && liveOid !== undefined;
    const onlyLive = isWanted ? await findOnlyLive(sides, restore.signal) : undefined;
    const differences = await compareTables(sides, tables, {
      signal: restore.signal,
      onTable: (doneItems, { schema, name }) =>
        onProgress(
          create(WorkDoneSchema, {
            phase: "comparing with the live rows",
            item: `${schema}.${name}`,
            doneItems,
            totalItems: tables.length,
          }),
        ),
    });
    log(
      `compared ${differences.filter(({ counted }) => counted).length} of ${tables.length} tables with the live ones`,
    );
    const rest = tables.length - differences.length;
    return {
      liveOid,
      onlyLive,
      differences,
      warnings: rest > 0 ? [`the rows of ${rest} more tables were not compared with live ones`] : [],
    };
  } catch (error) {
    restore.signal.throwIfAborted();
    if (!isFailure(error)) throw error;
    return { differences: [], warnings: [`rows were not compared with live ones: ${error.message}`] };
  }
}

async function findOid(endpoint: ResolvedEndpoint, name: string, signal: AbortSignal): Promise<number | undefined> {
  await using connection = await openConnection(endpoint, { signal });
  return await findDatabase(connection, name);
}

/** Only the database that the rows were compared with may be swapped out: another one of its name was not shown. */
function bindToCompared({ loaded, warnings }: RecoverPartResult, liveOid: number | undefined): void {
  const held = loaded?.held;
  if (!held || liveOid === undefined || held.replacesOid === liveOid) return;
  held.replacesOid = liveOid;
  warnings.push(
    "the database that it was compared with was replaced by another one meanwhile: it cannot be swapped in",
  );
}

/** Puts the part where it is to go; the scratch server is gone by then. */
async function deliver(
  part: PartToRecover,
  dump: string,
  { result, liveOid }: { readonly result: RecoverPartResult; readonly liveOid: number | undefined },
): Promise<void> {
  const { command, restore, log, onProgress, onLeaving, onStaged, onInto } = part;
  const { load, file } = command;
  if (file) {
    result.fileBytes = (await stat(dump, { bigint: true })).size;
    result.file = file;
    await part.onDone(result);
    try {
      await putFileIntoPlace(dump, file.path);
    } catch (error) {
      await part.onDone(undefined);
      throw error;
    }
    log(`put into place as ${file.path}, ${formatSize(result.fileBytes)}`);
    return;
  }
  if (!load) return fail("INVALID_FIELD", "the command says neither a database nor a file to make");
  const kept = await openDumped(dump, restore.signal);
  result.loaded = await restoreDatabase({
    ...loadOf(part, load, restore.signal),
    source: kept?.source,
    onProgress,
    log,
    onStaged,
    onInto,
    onLeaving,
  });
  bindToCompared(result, liveOid);
  await part.onDone(result);
}

async function clearAway(part: PartToRecover, dump: string, error: unknown): Promise<void> {
  const { places, command, onLeaving, log } = part;
  try {
    // Whoever settles needs the dump to tell.
    if (isFailure(error, "OUTCOME_UNKNOWN")) return await removeServer(places);
    if (command.file) await settleFile(dump, command.file.path);
    if (await removeScratch(places)) log(`removed the scratch folder ${places.folder}`);
  } catch (problem) {
    onLeaving(
      `the scratch folder ${places.folder}: ${problem instanceof Error ? problem.message : "it is still there"}`,
    );
  }
}

/**
 * Brings back a database, or a part of it, as it was at a point in time: the whole cluster is restored into a scratch
 * folder and recovered by a server that nobody else reaches, what is wanted is dumped out of it and its rows are compared
 * with the live ones; then that server goes, and the dump is loaded or becomes a file. However it ends, nothing of the
 * scratch cluster is left. Fails as restorePhysical, dumpOut and restoreDatabase do, and with FILE_EXISTS.
 */
export async function recoverPart(part: PartToRecover): Promise<RecoverPartResult> {
  const { command, places, restore, onProgress, log } = part;
  const { signal, operationId } = restore;
  const say = (phase: string, item: string) => onProgress(create(WorkDoneSchema, { phase, item }));
  const { file, database } = command;
  const dump = file ? unfinishedFile(file.path, operationId) : places.dump;
  say("preflight", database);
  if (await removeScratch(places)) log(`removed the scratch folder ${places.folder} of an earlier run`);
  const ground = await requireReady(part);
  try {
    await makeScratch(places, signal);
    const { recovered, tables, differences, warnings, onlyLive, liveOid } = await takeOut(part, ground, dump);
    say("removing the scratch server", places.folder);
    await removeServer(places);
    const alone = onlyLive ? { onlyLive } : {};
    const result = create(RecoverPartResultSchema, { recovered, differences, warnings, tables, ...alone });
    await deliver(part, dump, { result, liveOid });
    await clearAway(part, dump, undefined);
    return result;
  } catch (error) {
    await clearAway(part, dump, error);
    if (!isFailure(error, "OUTCOME_UNKNOWN")) signal.throwIfAborted();
    throw error;
  }
}
