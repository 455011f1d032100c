// One thing: the recovery of a restored server from its start to its end: who may ask it, what it says, what is enough.
import { join } from "node:path";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { RestorePhysicalResult } from "@coppice/proto/gen/coppice/agent/v1/restore_physical";
import { RecoveryAction, RestoredServerState } from "@coppice/proto/gen/coppice/common/v1/recovery_target";
import { fail, isFailure } from "@coppice/proto/kit/failure";
import { formatLsn, parseLsn } from "@coppice/proto/kit/wal/lsn";
import { lookUpUser } from "../../host/os-user.ts";
import { freeBytesOf } from "../../host/space.ts";
import { runProgram } from "../../host/run.ts";
import type { PostgresConnection } from "../../postgres/connect.ts";
import type { ResolvedEndpoint } from "../../postgres/endpoint.ts";
import { replayedFile } from "./directory/replayed-file.ts";
import { type ExtraSettings, readIfThere, writeOwned } from "./settings/configuration.ts";
import { type Logins, openLogin, quoteLogin, socketEndpoint } from "./settings/logins.ts";
import { quietSettings } from "./settings/recovery-settings.ts";
import { findInsufficient } from "./settings/required-settings.ts";
import { awaitSealed, sealRecovery } from "./seal-recovery.ts";
import { serverProgram } from "./server-programs.ts";
import {
  readServerLog,
  readSetting,
  readSettings,
  type ServerPlace,
  startServer,
  stopServer,
  takesConnections,
  waitWhileRunning,
  whyServerEnded,
} from "./server.ts";

/** How the server is to recover. */
export interface RecoveryToRun {
  readonly place: ServerPlace;
  readonly action: RecoveryAction;
  /** Whether it was told to pause at its target though it is to be promoted there. */
  readonly isPromoted: boolean;
  readonly restoreCommand: string;
  /** Of the backup and of the target, which may be 0. */
  readonly timelines: readonly number[];
  /** How the server says that it has come to its target, where no position tells; undefined where one does. */
  readonly stopsAt: StopNote | undefined;
  /** What helps where it comes to the end of the WAL before its target. */
  readonly beyondEnd: string;
  /** Position that has to be reached at least; undefined is not checked. */
  readonly expectedEnd: bigint | undefined;
  /** Whether that is where a record ends, and nothing else tells a server where to end. */
  readonly isEndExact: boolean;
  /** Hears how far it is: the file of WAL until somebody is let in, then the position. */
  readonly onWait: (at: string) => void;
  /** As whom it may be asked. */
  readonly logins: Logins;
  /** Called with settings that the server was started with too little of, while it does not run: it is started again. */
  readonly onRaised: (raised: ExtraSettings) => Promise<void>;
  /** Gets what is to be known of the server once it is there. */
  readonly warnings: string[];
  /** Called once recovery has ended for good, before the server reads its configuration again. */
  readonly onRecovered: () => Promise<void>;
}

/** What a server writes into its log at a target. */
export interface StopNote {
  /** The target, for messages. */
  readonly what: string;
  readonly line: RegExp;
}

/** What the server says once recovery is over. */
export type Recovered = Pick<RestorePhysicalResult, "endLsn" | "timeline" | "address" | "started" | "serverState"> &
  Partial<Pick<RestorePhysicalResult, "lastCommitTime">>;

/** Less than that is free where something could not be written. */
const fullBytes = 1n << 20n;
const mapName = "coppice_restore";
/** A whole record ends at most that far before a position inside the next one: one segment's worth is generous. */
export const recordSlack = 16n * 1024n * 1024n;

interface Access {
  readonly endpoint: ResolvedEndpoint;
  /** Takes the line out again and has the server read its files once more. */
  close(connection: PostgresConnection | undefined): Promise<void>;
}

/**
 * Lets the agent's own user in by the socket while it recovers, whatever else the configuration asks for: a line in
 * front of pg_hba.conf, which a server reads again without a restart. Nobody else gets in by it.
 */
async function openAccess(place: ServerPlace, logins: Logins): Promise<Access> {
  const { data, user, signal } = place;
  const self = await lookUpUser(process.geteuid?.() ?? 0, signal);
  const [hba, ident] = [join(data, "pg_hba.conf"), join(data, "pg_ident.conf")];
  const [oldHba, oldIdent] = [(await readIfThere(hba)) ?? "", (await readIfThere(ident)) ?? ""];
  const roles = logins.roles.map(quoteLogin);
  await writeOwned(hba, `local all ${roles.join(",")} peer map=${mapName}\n${oldHba}`, user);
  await writeOwned(ident, `${roles.map((role) => `${mapName} ${self.name} ${role}\n`).join("")}${oldIdent}`, user);
  const [folders, port] = await readSettings(place, ["unix_socket_directories", "port"]);
  const host = folders
    .split(",")
    .map((each) => each.trim())
    .find((folder) => folder.startsWith("/"));
  if (host === undefined)
    return fail("SERVER_NOT_STARTED", `the server in ${data} listens on no socket that it could be asked by`, {
      hint: "restore without --start, and start it by hand",
    });
  const endpoint = socketEndpoint(host, Number(port), logins);
  return {
    endpoint,
    async close(connection) {
      await writeOwned(hba, oldHba, user);
      await writeOwned(ident, oldIdent, user);
      await connection?.query("select pg_reload_conf()");
    },
  };
}

interface Seen {
  readonly in_recovery: boolean;
  readonly paused: boolean;
  readonly lsn: string | null;
  readonly ms: string | null;
  readonly timeline: number;
}

const sight = `select pg_is_in_recovery() as in_recovery,
  case when pg_is_in_recovery() then pg_get_wal_replay_pause_state() = 'paused' else false end as paused,
  pg_last_wal_replay_lsn()::text as lsn,
  extract(epoch from pg_last_xact_replay_timestamp()) * 1000 as ms,
  case when pg_is_in_recovery() then (select min_recovery_end_timeline from pg_control_recovery())
    else ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int end as timeline`;

/** What no waiting mends. */
const final = ["RECOVERY_TARGET_UNREACHABLE", "SERVER_NOT_STARTED", "SPACE_MISSING"] as const;

/** Why it cannot be asked yet: it is still starting, or it is not consistent. */
function isNotYet(error: unknown): boolean {
  return isFailure(error) && error.reason !== "LOGIN_REFUSED";
}

/** Fails with RECOVERY_TARGET_UNREACHABLE, SPACE_MISSING or SERVER_NOT_STARTED, saying what the server said. */
async function failEnded(
  { place, beyondEnd }: Pick<RecoveryToRun, "place" | "beyondEnd">,
  how = "ended while it recovered",
): Promise<never> {
  const { data } = place;
  const log = await readServerLog(place);
  const why = whyServerEnded(log);
  // The log may lie on the disk that is full.
  if (/No space left on device|Disk quota exceeded/.test(log) || ((await freeBytesOf(data)) ?? fullBytes) < fullBytes)
    fail("SPACE_MISSING", `there was no room left for ${data} while its server recovered: ${why}`, {
      hint: "WAL that is replayed may make a cluster larger than its backup: make room, or name another place",
    });
  if (log.includes("recovery ended before configured recovery target was reached"))
    fail("RECOVERY_TARGET_UNREACHABLE", `recovery came to the end of the WAL before its target: ${why}`, {
      hint: beyondEnd,
    });
  const isTaken = /Address already in use|\.s\.PGSQL\.\d+\.lock" already exists/.test(log);
  const hint = "another server has its port: name a free one with --port, and restore again";
  return fail("SERVER_NOT_STARTED", `the server in ${data} ${how}: ${why}`, isTaken ? { hint } : {});
}

function requireReached(end: string, { expectedEnd, isEndExact }: RecoveryToRun): void {
  if (expectedEnd === undefined || parseLsn(end) + (isEndExact ? 0n : recordSlack) >= expectedEnd) return;
  fail(
    "RECOVERY_TARGET_UNREACHABLE",
    `recovery ended at ${end}, before ${formatLsn(expectedEnd)}, which the plan had promised`,
    { hint: "the WAL between is missing or damaged: `coppice wal verify CLUSTER`; or choose a target before it" },
  );
}

/**
 * Has a server that was told to pause at its target be promoted there instead, as a standby is: without the checkpoint
 * that ends every other recovery, which writes and syncs all that was replayed before anybody gets in. Asked for while it
 * still replays it is seen to at the target itself; a server that pauses there already looks for it once a second, and
 * goes on with that checkpoint when it is told to.
 */
async function promote(connection: PostgresConnection, { paused }: Seen): Promise<void> {
  try {
    await connection.query(paused ? "select pg_wal_replay_resume()" : "select pg_promote(false)");
  } catch (error) {
    // It has got there meanwhile, or sees to it just now.
    if (isFailure(error, "POSTGRES_REFUSED")) return;
    if (!isFailure(error, "PRIVILEGE_MISSING")) throw error;
    fail("SERVER_NOT_STARTED", `the server cannot be promoted at its target: ${error.message}`, { cause: error });
  }
}

/** By SHOW, because what the configuration's files say and what a server acts by may differ. */
async function requireQuiet(connection: PostgresConnection, restoreCommand: string): Promise<void> {
  const wanted = [...quietSettings, ["restore_command", restoreCommand] as const];
  for (const [name, value] of wanted) {
    const { shown } = await connection.queryOne<{ shown: string }>("select current_setting($1) as shown", [name]);
    requireShown(name, value, shown);
  }
}

/** Subscriptions of the source do not run: the living server may use their slots, and what the copy took it would not get. */
async function findSubscriptions(connection: PostgresConnection): Promise<string[]> {
  const { count } = await connection.queryOne<{ count: number }>(
    "select count(*)::int as count from pg_subscription where subenabled",
  );
  if (count === 0) return [];
  return [
    `${count} enabled subscription${count === 1 ? "" : "s"} ${count === 1 ? "does" : "do"} not run, because max_logical_replication_workers is 0: once nothing else uses ${count === 1 ? "its slot" : "their slots"}, ALTER SYSTEM RESET max_logical_replication_workers and a restart; else DROP SUBSCRIPTION, with ALTER SUBSCRIPTION … SET (slot_name = NONE) before it`,
  ];
}

const howPreparedEnd =
  "see `select * from pg_prepared_xacts`, and end each in its database by COMMIT PREPARED or ROLLBACK PREPARED";

/** They hold their locks, and keep vacuum from its work, for as long as nobody ends them. */
async function findPrepared(connection: PostgresConnection): Promise<string[]> {
  const { count } = await connection.queryOne<{ count: number }>(
    "select count(*)::int as count from pg_prepared_xacts",
  );
  if (count === 0) return [];
  return [
    `${count} prepared transaction${count === 1 ? " is" : "s are"} open, as at the target, with all locks: ${howPreparedEnd}`,
  ];
}

/** A server shows none of them before its recovery has ended. */
async function warnOfPrepared(place: ServerPlace): Promise<string[]> {
  if ((await readSetting(place, "max_prepared_transactions")) === "0") return [];
  return [
    `whether prepared transactions are open, with all locks, shows only when recovery has ended: then ${howPreparedEnd}`,
  ];
}

function requireShown(name: string, value: string, shown: string): void {
  // An archive_command that is not in use is shown as such.
  if (shown !== value && !(name === "archive_command" && shown === "(disabled)"))
    fail("SERVER_NOT_STARTED", `the restored server has another ${name} than it was given`);
}

/** A transaction or a restore point is at no position that was known beforehand: the server's log tells. */
async function requireStopped({ place, stopsAt, beyondEnd }: RecoveryToRun): Promise<void> {
  if (!stopsAt || stopsAt.line.test(await readServerLog(place))) return;
  fail(
    "RECOVERY_TARGET_UNREACHABLE",
    `recovery is over, and the server did not say that it stopped at ${stopsAt.what}`,
    { hint: beyondEnd },
  );
}

/**
 * Starts a restored server and waits until it is where it was to recover to. Fails with SERVER_NOT_STARTED, SPACE_MISSING
 * or RECOVERY_TARGET_UNREACHABLE, which say what the server said; then it may still run.
 */
export async function recover(request: RecoveryToRun): Promise<Recovered> {
  const { place, action, isPromoted, restoreCommand, onWait, onRecovered, warnings, logins, onRaised } = request;
  const pauses = action === RecoveryAction.PAUSE;
  const access = await openAccess(place, logins);
  const { endpoint } = access;
  const address = `${endpoint.host}:${endpoint.port}`;
  // One for all looks: a server that has two cores for its recovery would spend much of them on logins.
  let connection: PostgresConnection | undefined;
  // Whether it was asked to be promoted.
  let isAsked = false;
  await using _last = { [Symbol.asyncDispose]: async () => await connection?.[Symbol.asyncDispose]() };
  const look = async (): Promise<Recovered | "paused by itself" | undefined> => {
    try {
      if (!connection && !(await takesConnections(place.data))) {
        // Until it is consistent, which after a long backup takes hours, nothing else tells that it moves.
        const file = await replayedFile(place.data);
        if (file !== undefined) onWait(file);
        return undefined;
      }
      connection ??= (await openLogin(endpoint, logins, place.signal)).connection;
      const seen = await connection.queryOne<Seen>(sight);
      if (seen.lsn !== null) onWait(seen.lsn);
      // Of a server that has less than the one that wrote the WAL that is its own doing, also where it is to pause later.
      if (seen.paused && (!(pauses || isPromoted) || (await findInsufficient(place)).length > 0))
        return "paused by itself";
      if (seen.in_recovery && isPromoted && (seen.paused || !isAsked)) {
        await promote(connection, seen);
        isAsked = true;
      }
      if (seen.in_recovery && !(pauses && seen.paused)) return undefined;
      if (pauses && !seen.in_recovery)
        fail("RECOVERY_TARGET_UNREACHABLE", "the server has ended recovery instead of pausing at its target");
      await requireQuiet(connection, restoreCommand);
      const endLsn = seen.lsn ?? fail("SERVER_NOT_STARTED", "the server does not say where its recovery ended");
      requireReached(endLsn, request);
      await requireStopped(request);
      const prepared = seen.in_recovery ? await warnOfPrepared(place) : await findPrepared(connection);
      warnings.push(...(await findSubscriptions(connection)), ...prepared);
      if (!seen.in_recovery) await onRecovered();
      else await sealRecovery(place, request, []);
      await access.close(connection);
      if (seen.in_recovery) await awaitSealed(connection, place.signal);
      return {
        started: true,
        serverState: seen.in_recovery ? RestoredServerState.PAUSED : RestoredServerState.RUNNING,
        endLsn,
        timeline: seen.timeline,
        address,
        ...(seen.ms === null ? {} : { lastCommitTime: timestampFromMs(Math.floor(Number(seen.ms))) }),
      };
    } catch (error) {
      place.signal.throwIfAborted();
      if (final.some((reason) => isFailure(error, reason)) || !isNotYet(error)) throw error;
      await connection?.[Symbol.asyncDispose]();
      connection = undefined;
      return undefined;
    }
  };
  for (;;) {
    isAsked = false;
    await startServer(place);
    const ended = await waitWhileRunning(place, look);
    if (ended !== undefined && ended !== "paused by itself") return ended;
    await connection?.[Symbol.asyncDispose]();
    connection = undefined;
    const raised = await findInsufficient(place);
    if (raised.length === 0 && ended) await failEnded(request, "paused instead of going on with its recovery");
    if (raised.length === 0) break;
    await stopServer(place);
    await onRaised(raised);
  }
  if (action !== RecoveryAction.SHUTDOWN) return await failEnded(request);
  const log = await readServerLog(place);
  if (!log.includes("shutdown at recovery target")) return await failEnded(request);
  await access.close(undefined);
  const shown = await readSettings(
    place,
    quietSettings.map(([name]) => name),
  );
  for (const [index, [name, value]] of quietSettings.entries()) requireShown(name, value, shown[index] ?? "");
  const { endLsn, timeline } = await readControl(place);
  requireReached(endLsn, request);
  await requireStopped(request);
  // When it is started again, it would only shut down there once more.
  await sealRecovery(place, request, [["recovery_target_action", "promote"]]);
  warnings.push(...(await warnOfPrepared(place)));
  return { started: true, serverState: RestoredServerState.SHUT_DOWN, endLsn, timeline, address: "" };
}

async function readControl({
  data,
  programs,
  user,
  signal,
}: ServerPlace): Promise<{ endLsn: string; timeline: number }> {
  const { stdout } = await runProgram(
    { file: serverProgram(programs, "pg_controldata"), args: [data], user },
    { signal },
  );
  const text = stdout.toString("utf8");
  const valueOf = (label: string) => new RegExp(`^${label}:\\s*(\\S+)$`, "m").exec(text)?.[1] ?? "";
  return {
    endLsn: valueOf("Minimum recovery ending location"),
    timeline: Number(valueOf("Min recovery ending loc's timeline")),
  };
}
