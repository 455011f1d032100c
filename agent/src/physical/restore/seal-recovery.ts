import { access, readFile } from "node:fs/promises";
import { join } from "node:path";
import { Failure, isFailure } from "@coppice/proto/kit/failure";
import { historyName } from "@coppice/proto/kit/wal/segment";
import { runProgram } from "../../host/run.ts";
import type { PostgresConnection } from "../../postgres/connect.ts";
import { readIfThere } from "./settings/configuration.ts";
import { sleep } from "@coppice/proto/kit/sleep";
import { replaceFile } from "../../journal/durable-file.ts";
import type { ServerPlace } from "./server.ts";
import { formatSettings, type Settings } from "./settings/recovery-settings.ts";

/** What a server that stays at its target has been given. */
export interface Given {
  readonly restoreCommand: string;
  /** Of the backup and of the target, which may be 0. */
  readonly timelines: readonly number[];
}

/** The command by which nothing more is fetched. */
export const noRestoreCommand = "exit 1";

/** Whether the file was in the archive. Fails with SERVER_NOT_STARTED where that cannot be told. */
async function fetchInto({ data, user, signal }: ServerPlace, restoreCommand: string, name: string): Promise<boolean> {
  const path = join("pg_wal", name);
  const filled = restoreCommand.replaceAll(/%[fp%]/g, (word) => (word === "%f" ? name : word === "%p" ? path : "%"));
  try {
    await runProgram({ file: "/bin/sh", args: ["-c", filled], user, cwd: data, forks: true }, { signal });
    // As PostgreSQL does: what a command says is not taken for what it did.
    await access(join(data, path));
    return true;
  } catch (cause) {
    if (!isFailure(cause, "PROGRAM_FAILED")) throw cause;
    if (Number(cause.metadata["exitCode"] ?? 126) < 126) return false;
    throw new Failure("SERVER_NOT_STARTED", `${name} could not be fetched, which the server needs to go on later`, {
      cause,
    });
  }
}

/**
 * Puts into pg_wal which timelines there are, as a server asks for them when it ends recovery: so that the new one gets a
 * number that is free.
 */
async function fetchHistories(place: ServerPlace, { restoreCommand, timelines }: Given): Promise<void> {
  const last = Math.max(...timelines);
  for (let timeline = 2; ; timeline++)
    if (!(await fetchInto(place, restoreCommand, historyName(timeline))) && timeline > last) return;
}

/**
 * Lets a server that waits at its target, or was shut down there, end recovery later, when nobody hands out WAL to it any
 * more: what it has replayed lies in its pg_wal, the timelines come there too, and it is told to ask for nothing.
 * `settings` are others that it gets. Fails with SERVER_NOT_STARTED.
 */
export async function sealRecovery(place: ServerPlace, given: Given, settings: Settings): Promise<void> {
  if (given.restoreCommand !== noRestoreCommand) await fetchHistories(place, given);
  const file = join(place.data, "postgresql.auto.conf");
  // The last word counts.
  const sealed: Settings = [["restore_command", noRestoreCommand], ...settings];
  await replaceFile(file, `${await readFile(file, "utf8")}${formatSettings(sealed)}`);
}

/** How often the process has waited; undefined when it is gone. */
async function countWaits(pid: number): Promise<number | undefined> {
  const status = await readIfThere(`/proc/${pid}/status`);
  const count = /^voluntary_ctxt_switches:\s*(\d+)$/m.exec(status ?? "")?.[1];
  return count === undefined ? undefined : Number(count);
}

/**
 * Waits until a server that pauses acts by what sealRecovery has written, once it was told to read its files. Its process
 * that recovers does so up to a second later than the others, and says nothing of it: until then it would ask us, who are
 * gone by then, when somebody ends recovery. It has once it was seen to wake up several times.
 */
export async function awaitSealed(connection: PostgresConnection, signal: AbortSignal): Promise<void> {
  const query = `select current_setting('restore_command') as shown,
    (select pid from pg_stat_activity where backend_type = 'startup') as pid`;
  let seen = await connection.queryOne<{ shown: string; pid: number | null }>(query);
  for (; seen.shown !== noRestoreCommand; seen = await connection.queryOne(query)) await sleep(50, signal);
  if (seen.pid === null) return;
  const first = await countWaits(seen.pid);
  for (let now = first; now !== undefined && now < (first ?? 0) + 4; now = await countWaits(seen.pid))
    await sleep(50, signal);
}
