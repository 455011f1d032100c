import { timestampDate } from "@bufbuild/protobuf/wkt";
import { RecoveryAction, type RecoveryTarget } from "@coppice/proto/gen/coppice/common/v1/recovery_target";
import { fail } from "@coppice/proto/kit/failure";

/** How a restored server replays WAL. */
export interface Recovery {
  readonly target: RecoveryTarget;
  /** Timeline of the backup. */
  readonly backupTimeline: number;
  /** Command that fetches a file of the archive; undefined when all WAL is in pg_wal already. */
  readonly restoreCommand: string | undefined;
  /** Whether somebody waits until it is over, and reads the log. */
  readonly isWatched?: boolean;
}

/** Settings by name, in the order in which they are written. */
export type Settings = readonly (readonly [name: string, value: string])[];

const targetSettings = [
  "recovery_target",
  "recovery_target_lsn",
  "recovery_target_name",
  "recovery_target_time",
  "recovery_target_xid",
] as const;

/** Of the source, none of which a restored server may act by. */
const foreignSettings: ReadonlySet<string> = new Set([
  ...targetSettings,
  "archive_cleanup_command",
  "archive_command",
  "archive_library",
  "archive_mode",
  "data_directory",
  "external_pid_file",
  "hba_file",
  "ident_file",
  "primary_conninfo",
  "primary_slot_name",
  "promote_trigger_file",
  "recovery_end_command",
  "recovery_min_apply_delay",
  "recovery_target_action",
  "recovery_target_inclusive",
  "recovery_target_timeline",
  "restore_command",
]);

/**
 * What a restored server has to say of itself until somebody tells it otherwise: it archives nowhere, follows nobody, takes
 * nothing out of a publisher's slot that the living one needs, waits for no standby of it and runs no jobs a second time.
 */
export const quietSettings: Settings = [
  ["archive_mode", "off"],
  ["archive_command", ""],
  ["archive_library", ""],
  ["primary_conninfo", ""],
  ["primary_slot_name", ""],
  ["synchronous_standby_names", ""],
  ["max_logical_replication_workers", "0"],
  ["cron.launch_active_jobs", "off"],
];

/** What stays switched off until somebody takes it back: said of every restore, for it is missed only when it is used. */
export const staysQuiet =
  "left switched off in postgresql.auto.conf: archive_mode (`coppice wal setup` archives this server anew), max_logical_replication_workers (no subscription runs) and cron.launch_active_jobs (no job of pg_cron does), those made later neither; when they are to: ALTER SYSTEM RESET max_logical_replication_workers; ALTER SYSTEM RESET cron.launch_active_jobs; and a restart";

/** With any of the source's own a log might not hold, or not where it can be read, what the server says of its target. */
const watchedSettings: Settings = [
  ["log_destination", "stderr"],
  ["log_min_messages", "warning"],
];

const actions: Readonly<Record<RecoveryAction, string>> = {
  [RecoveryAction.UNSPECIFIED]: "promote",
  [RecoveryAction.PROMOTE]: "promote",
  [RecoveryAction.PAUSE]: "pause",
  [RecoveryAction.SHUTDOWN]: "shutdown",
};

function pointOf({ point }: RecoveryTarget): readonly [string, string] | undefined {
  switch (point.case) {
    case "time":
      // In UTC to the microsecond, so that no time zone of a server has a say in it.
      return ["recovery_target_time", formatTime(point.value)];
    case "lsn":
      return ["recovery_target_lsn", point.value];
    case "xid":
      return ["recovery_target_xid", String(point.value)];
    case "name":
      return ["recovery_target_name", point.value];
    case "immediate":
      return point.value ? ["recovery_target", "immediate"] : undefined;
    case undefined:
      return undefined;
  }
}

/**
 * Whether a server that is to be promoted at its target pauses there and is promoted by who waits for it, which takes no
 * checkpoint. Where WAL ends nothing pauses.
 */
export function isPromotedAtPause({ target, isWatched = false }: Recovery): boolean {
  return isWatched && actions[target.action] === "promote" && pointOf(target) !== undefined;
}

/** How a server says that it stopped at a target whose position nobody knows beforehand; undefined for other targets. */
export function stopNote({ point, exclusive }: RecoveryTarget): { what: string; line: RegExp } | undefined {
  if (point.case === "xid") {
    const line = new RegExp(
      `recovery stopping ${exclusive ? "before" : "after"} (commit|abort) of transaction ${point.value}\\b`,
    );
    return { what: `transaction ${point.value}`, line };
  }
  if (point.case !== "name") return undefined;
  const name = point.value.replaceAll(/[\\^$.*+?()[\]{}|]/g, "\\$&");
  return { what: `restore point ${point.value}`, line: new RegExp(`recovery stopping at restore point "${name}"`) };
}

/** What helps where recovery, which began with that backup, comes to the end of the WAL before such a target. */
export function beyondEnd(target: RecoveryTarget, backupId: string): string {
  const { point, timeline } = target;
  const noted = stopNote(target);
  if (noted)
    return `${noted.what} may lie before the end of ${backupId}: name an older backup, --backup bkp_…; if it was made just now, its WAL may not be stored yet; if it lies in none, see whether it is spelled right`;
  const onIt = timeline === 0 ? "" : ` --timeline ${timeline}`;
  if (point.case === "time")
    return `nothing in that WAL was committed after that time: all that was is there with --latest${onIt}`;
  return `choose a point before the end of the WAL, or --latest${onIt}`;
}

function formatTime(time: Parameters<typeof timestampDate>[0]): string {
  const seconds = timestampDate(time).toISOString().slice(0, 19).replace("T", " ");
  const micros = String(Math.floor(time.nanos / 1000)).padStart(6, "0");
  return `${seconds}.${micros}+00`;
}

function timelineOf({ target: { timeline }, backupTimeline, restoreCommand }: Recovery): string {
  if (restoreCommand === undefined || timeline === backupTimeline) return "current";
  return timeline === 0 ? "latest" : String(timeline);
}

/**
 * Takes the target out of a server's settings once it has recovered with nobody there to do it: a standby that is made of it
 * would end its own recovery there, and be a second primary.
 */
export const forgetRecovery =
  "sed -i -e /^recovery_target/d -e /^restore_command/d -e /^recovery_end_command/d postgresql.auto.conf";

/**
 * The settings by which a server recovers; settings of targets that are not ours come first and empty, because it
 * refuses two. Fails with INVALID_FIELD where it could not do what is asked for.
 */
export function recoverySettings(recovery: Recovery): Settings {
  const { target, restoreCommand, isWatched = false } = recovery;
  const point = pointOf(target);
  const action = actions[target.action];
  if (!point && action !== "promote")
    fail("INVALID_FIELD", `recovery to the latest that is there has no point at which a server could ${action}`, {
      hint: "leave the action out, or name a point behind which something was committed: where nothing was, a server recovers to the latest",
    });
  return [
    // All that there is was put into pg_wal; without any command a server refuses to recover.
    ["restore_command", restoreCommand ?? "exit 1"],
    ["archive_cleanup_command", ""],
    ["recovery_end_command", isWatched ? "" : forgetRecovery],
    ["recovery_min_apply_delay", "0"],
    ["hot_standby", "on"],
    ["lc_messages", "C"],
    ...(isWatched ? watchedSettings : []),
    ["recovery_target_timeline", timelineOf(recovery)],
    ["recovery_target_inclusive", target.exclusive ? "off" : "on"],
    ["recovery_target_action", isPromotedAtPause(recovery) ? "pause" : action],
    ...targetSettings.filter((name) => name !== point?.[0]).map((name) => [name, ""] as const),
    ...(point ? [point] : []),
  ];
}

/** A value as a configuration file takes it. */
export function quoteSetting(value: string): string {
  // A line that ends within quotes is a syntax error.
  return `'${value.replaceAll("\\", "\\\\").replaceAll("'", "''").replaceAll("\n", "\\n")}'`;
}

/** Settings as lines of a configuration file. */
export function formatSettings(settings: Settings): string {
  return settings.map(([name, value]) => `${name} = ${quoteSetting(value)}\n`).join("");
}

/** A source's postgresql.auto.conf without archiving, recovery and slots. */
export function withoutForeign(text: string): string {
  const lines = text.split("\n").filter((line) => {
    const name = /^\s*([A-Za-z_][\w.]*)\s*(?:=|\s)/.exec(line)?.[1];
    return name === undefined || !foreignSettings.has(name.toLowerCase());
  });
  const kept = lines.join("\n");
  return kept === "" || kept.endsWith("\n") ? kept : `${kept}\n`;
}
