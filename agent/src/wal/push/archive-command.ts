import { setTimeout as delay } from "node:timers/promises";
import { Failure, fail, isFailure } from "@coppice/proto/kit/failure";
import type { PostgresConnection } from "../../postgres/connect.ts";
import { quoteIdentifier, quoteLiteral } from "../../postgres/quote.ts";
import { quoteWord } from "../fetch/open-replay.ts";
import type { ArchiverState } from "./archiver-state.ts";

/** Commands that archive nothing: nobody loses anything when they are replaced. */
const idle = ["", "(disabled)", "true", "/bin/true", ":", "exit 0"];
const reload = "SELECT pg_reload_conf();";
const waitMs = 10_000;
const lookEveryMs = 50;

/** The archive_command that hands files to the socket by the program. */
export function formatCommand({ shim, socket }: { readonly shim: string; readonly socket: string }): string {
  return `${quoteWord(shim)} push ${quoteWord(socket)} %p`;
}

/** Whether a command is one that hands files to this socket, whatever the program's path. */
export function isOwnCommand(command: string, socket: string): boolean {
  return command.endsWith(` push ${quoteWord(socket)} %p`);
}

/** What has the server archive by a command, a segment that is not full at the latest after so long. */
export function archiveStatements(
  { mode, command, timeoutSeconds, library }: ArchiverState,
  wanted: { readonly command: string; readonly maxAgeSeconds: number },
): { readonly live: readonly string[]; readonly restart: readonly string[] } {
  const live: string[] = [];
  if (command !== wanted.command) live.push(setSetting("archive_command", quoteLiteral(wanted.command)));
  if (library !== "") live.push("ALTER SYSTEM SET archive_library = '';");
  if (timeoutSeconds === 0 || timeoutSeconds > wanted.maxAgeSeconds)
    live.push(setSetting("archive_timeout", `'${wanted.maxAgeSeconds}s'`));
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
  const { live } = archiveStatements(state, wanted);
  if (live.length === 0) return;
  const isTaken =
    state.library !== "" || !(idle.includes(state.command.trim()) || isOwnCommand(state.command, wanted.socket));
  if (isTaken)
    fail("ARCHIVE_COMMAND_TAKEN", "the server archives by a command or a library of somebody else already", {
      hint: `when that is no longer wanted: ${live.join(" ")}`,
    });
  await run(connection, live);
  // With archive_mode off nothing can be read back before the restart.
  if (state.mode !== "off") await readBack(connection, (command) => command === wanted.command);
}

/**
 * Has the server hand nothing to the socket any more. Where it would keep all its WAL then, because archive_mode is on and
 * nothing archives, it throws away what it would keep. Gives whether there was anything to do. Fails like applyCommand.
 */
export async function releaseCommand(
  connection: PostgresConnection,
  { command, mode }: Pick<ArchiverState, "command" | "mode">,
  socket: string,
): Promise<boolean> {
  if (!isOwnCommand(command, socket)) return false;
  await run(connection, ["ALTER SYSTEM RESET archive_command;", "ALTER SYSTEM RESET archive_timeout;", reload]);
  if (mode === "off") return true;
  const left = await readBack(connection, (now) => !isOwnCommand(now, socket));
  if (left.trim() !== "") return true;
  await run(connection, [setSetting("archive_command", "'true'"), reload]);
  await readBack(connection, (now) => now === "true");
  return true;
}

const setSetting = (name: string, value: string) => `ALTER SYSTEM SET ${name} = ${value};`;

async function run(connection: PostgresConnection, statements: readonly string[]): Promise<void> {
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
    const { command } = await connection.queryOne<{ command: string }>(
      "select current_setting('archive_command') as command",
    );
    if (isRight(command)) return command;
    if (performance.now() > untilMs)
      fail("ARCHIVE_COMMAND_NOT_SET", "archive_command was changed, and the server does not show it", {
        hint: "see whether the command line of the server sets it, which wins: SELECT * FROM pg_settings WHERE name = 'archive_command';",
      });
    await delay(lookEveryMs);
  }
}
