import { mkdir, readFile, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { Failure, fail, isFailure } from "@coppice/proto/kit/failure";
import { replaceFile } from "../../journal/durable-file.ts";
import { isIdleCommand } from "../../postgres/check/archiver.ts";
import type { PostgresConnection } from "../../postgres/connect.ts";
import { quoteIdentifier, quoteLiteral } from "../../postgres/quote.ts";
import { quoteWord } from "../fetch/open-replay.ts";
import { type ArchiverState, configuredCommand } from "./archiver-state.ts";

const timeoutStatement = "ALTER SYSTEM SET archive_timeout = ";
const reload = "SELECT pg_reload_conf();";
const waitMs = 10_000;
const lookEveryMs = 50;

/** The archive_command that hands files to the socket by the program. */
export function formatCommand({ shim, socket }: { readonly shim: string; readonly socket: string }): string {
  return `${quoteWord(shim)} push ${quoteWord(socket)} %p`;
}

/**
 * Whether a command is one that hands files of the socket's cluster to an agent: this one, or one that had the cluster
 * before and kept its files elsewhere.
 */
export function isOwnCommand(command: string, socket: string): boolean {
  const ofCluster = quoteWord(socket.split("/").slice(-3).join("/")).slice(1);
  return command.includes(" push '") && command.endsWith(`/${ofCluster} %p`);
}

/**
 * What has the server archive by a command, a segment that is not full at the latest after so long; sooner where somebody
 * else set it so, who is known by the note.
 */
export function archiveStatements(
  { mode, command, timeoutSeconds, library }: ArchiverState,
  wanted: { readonly command: string; readonly maxAgeSeconds: number },
  note?: TimeoutNote,
): { readonly live: readonly string[]; readonly restart: readonly string[] } {
  const live: string[] = [];
  if (command !== wanted.command) live.push(setSetting("archive_command", quoteLiteral(wanted.command)));
  if (library !== "") live.push("ALTER SYSTEM SET archive_library = '';");
  const wantedSeconds = wantedTimeout(timeoutSeconds, wanted.maxAgeSeconds, note);
  if (timeoutSeconds !== wantedSeconds) live.push(`${timeoutStatement}'${wantedSeconds}s';`);
  if (live.length > 0) live.push(reload);
  return { live, restart: mode === "off" ? [setSetting("archive_mode", "on")] : [] };
}

/**
 * Has the server archive by the command, and reads back that it does. A command of somebody else is left as it is. Fails
 * with ARCHIVE_COMMAND_TAKEN, PRIVILEGE_MISSING, ARCHIVE_COMMAND_NOT_SET, or like a query.
 */
export async function applyCommand(
  connection: PostgresConnection,
  state: ArchiverState,
  wanted: { readonly command: string; readonly socket: string; readonly maxAgeSeconds: number },
): Promise<void> {
  const note = await readNote(wanted.socket);
  const { live } = archiveStatements(state, wanted, note);
  if (live.length === 0) return;
  const isTaken = state.library !== "" || !(isIdleCommand(state.command) || isOwnCommand(state.command, wanted.socket));
  if (isTaken)
    fail("ARCHIVE_COMMAND_TAKEN", "the server archives by a command or a library of somebody else already", {
      hint: `when that is no longer wanted: ${live.join(" ")}`,
    });
  await requireRights(connection, live, { seesDirectory: true });
  const isTimed = live.some((statement) => statement.startsWith(timeoutStatement));
  if (isTimed) await noteTimeout(connection, state, wanted, note);
  await run(connection, live);
  await readBack(connection, (command) => command === wanted.command);
}

/** An archive_timeout that was set here. */
interface TimeoutNote {
  readonly setSeconds: number;
  readonly beforeSeconds: number;
  /** It was ALTER SYSTEM's before, too. */
  readonly wasAltered: boolean;
}

/** Beside the socket's folder, which goes with it. */
const notePath = (socket: string) => `${dirname(socket)}.timeout`;

async function readNote(socket: string): Promise<TimeoutNote | undefined> {
  try {
    const [setSeconds = 0, beforeSeconds = 0, altered] = (await readFile(notePath(socket), "utf8"))
      .split(" ")
      .map(Number);
    return { setSeconds, beforeSeconds, wasAltered: altered === 1 };
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw error;
  }
}

/** What was set here is raised, too, as far as it was before. */
function wantedTimeout(timeoutSeconds: number, maxAgeSeconds: number, known: TimeoutNote | undefined): number {
  const beforeSeconds = known?.setSeconds === timeoutSeconds ? known.beforeSeconds : timeoutSeconds;
  return beforeSeconds === 0 ? maxAgeSeconds : Math.min(beforeSeconds, maxAgeSeconds);
}

/** Notes what archive_timeout was before it was set here for the first time. */
async function noteTimeout(
  connection: PostgresConnection,
  { timeoutSeconds }: ArchiverState,
  { socket, maxAgeSeconds }: { readonly socket: string; readonly maxAgeSeconds: number },
  known: TimeoutNote | undefined,
): Promise<void> {
  const [altered] = await connection.query(
    "select from pg_settings where name = 'archive_timeout' and sourcefile like '%/postgresql.auto.conf'",
  );
  const before =
    known?.setSeconds === timeoutSeconds ? known : { beforeSeconds: timeoutSeconds, wasAltered: altered !== undefined };
  const setSeconds = wantedTimeout(timeoutSeconds, maxAgeSeconds, known);
  await mkdir(dirname(notePath(socket)), { recursive: true, mode: 0o711 });
  await replaceFile(notePath(socket), `${setSeconds} ${before.beforeSeconds} ${Number(before.wasAltered)}`);
}

/**
 * Has the server hand nothing to the socket any more. Where it would keep all its WAL then, because archive_mode is on and
 * nothing archives, it throws away what it would keep; so it does where archive_mode is to be on from the next restart on. archive_timeout becomes what it was, unless it is somebody else's.
 * Gives whether there was anything to do. Fails like applyCommand.
 */
export async function releaseCommand(
  connection: PostgresConnection,
  { command, mode, timeoutSeconds }: Pick<ArchiverState, "command" | "mode" | "timeoutSeconds">,
  socket: string,
): Promise<boolean> {
  if (!isOwnCommand(command, socket)) return false;
  const note = await readNote(socket);
  const timeout =
    note?.setSeconds !== timeoutSeconds
      ? []
      : [note.wasAltered ? `${timeoutStatement}'${note.beforeSeconds}s';` : "ALTER SYSTEM RESET archive_timeout;"];
  await run(connection, ["ALTER SYSTEM RESET archive_command;", ...timeout, reload]);
  await rm(notePath(socket), { force: true });
  const left = await readBack(connection, (now) => !isOwnCommand(now, socket));
  if (left.trim() !== "" || (mode === "off" && !(await isRestartAwaited(connection)))) return true;
  await run(connection, [setSetting("archive_command", "'true'"), reload]);
  await readBack(connection, (now) => now === "true");
  return true;
}

/** Whether another archive_mode, on for all that is known, comes with the next restart. */
async function isRestartAwaited(connection: PostgresConnection): Promise<boolean> {
  const [awaited] = await connection.query("select from pg_settings where name = 'archive_mode' and pending_restart");
  return awaited !== undefined;
}

const setSetting = (name: string, value: string) => `ALTER SYSTEM SET ${name} = ${value};`;

/**
 * Fails with PRIVILEGE_MISSING, before anything is changed, where the role may not run one of the statements, or see the
 * data directory where it has to.
 */
async function requireRights(
  connection: PostgresConnection,
  statements: readonly string[],
  { seesDirectory }: { readonly seesDirectory: boolean },
): Promise<void> {
  const names = statements.flatMap((statement) => /^ALTER SYSTEM (?:RE)?SET (\w+)/.exec(statement)?.[1] ?? []);
  const role = await connection.queryOne<{
    isSuper: boolean;
    mayReload: boolean;
    maySee: boolean;
    major: number;
    database: string;
  }>(
    `select rolsuper as "isSuper", pg_has_role('pg_read_all_settings', 'usage') as "maySee",
      has_function_privilege('pg_catalog.pg_reload_conf()', 'EXECUTE') as "mayReload",
      current_setting('server_version_num')::int / 10000 as major, current_database()::text as database
      from pg_catalog.pg_roles where rolname = current_user`,
  );
  if (role.isSuper) return;
  const refused =
    role.major < 15
      ? names
      : await connection
          .query<{ name: string }>(
            "select name from unnest($1::text[]) name where not has_parameter_privilege(name, 'ALTER SYSTEM')",
            [names],
          )
          .then((rows) => rows.map(({ name }) => name));
  const isBlind = seesDirectory && !role.maySee;
  if (!isBlind && refused.length === 0 && (role.mayReload || !statements.includes(reload))) return;
  const user = quoteIdentifier(connection.endpoint.user);
  const grants = [
    ...(isBlind ? [`GRANT pg_read_all_settings TO ${user};`] : []),
    ...(refused.length > 0 ? [`GRANT ALTER SYSTEM ON PARAMETER ${refused.join(", ")} TO ${user};`] : []),
    ...(role.mayReload
      ? []
      : [`GRANT EXECUTE ON FUNCTION pg_reload_conf() TO ${user}; -- in the database ${role.database}`]),
  ];
  const what = [
    ...(isBlind ? ["see where its data directory is, which tells it from a clone,"] : []),
    ...(refused.length > 0 ? [`set ${refused.join(", ")}`] : []),
    ...(role.mayReload ? [] : ["reload it"]),
  ];
  fail("PRIVILEGE_MISSING", `${user} may not change how the server archives: it may not ${what.join(" or ")}`, {
    hint: `as a superuser: ${role.major < 15 ? statements.join(" ") : grants.join(" ")}`,
  });
}

async function run(connection: PostgresConnection, statements: readonly string[]): Promise<void> {
  await requireRights(connection, statements, { seesDirectory: false });
  try {
    for (const statement of statements) await connection.query(statement);
  } catch (error) {
    if (!isFailure(error, "PRIVILEGE_MISSING")) throw error;
    const role = quoteIdentifier(connection.endpoint.user);
    throw new Failure("PRIVILEGE_MISSING", `${role} may not change how the server archives`, {
      hint: `as a superuser: ${statements.join(" ")}`,
      cause: error,
    });
  }
}

/** The session is told of a reload a moment later. */
async function readBack(connection: PostgresConnection, isRight: (command: string) => boolean): Promise<string> {
  const untilMs = performance.now() + waitMs;
  for (;;) {
    const { command } = await connection.queryOne<{ command: string }>(`select ${configuredCommand} as command`);
    if (isRight(command)) return command;
    if (performance.now() > untilMs)
      fail("ARCHIVE_COMMAND_NOT_SET", "archive_command was changed, and the server does not show it", {
        hint: "see whether the command line of the server sets it, which wins: SELECT * FROM pg_settings WHERE name = 'archive_command';",
      });
    await delay(lookEveryMs);
  }
}
