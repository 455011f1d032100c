// One text: RECOVER.txt of physical backups, whose parts name and follow each other.
import type { PhysicalContent, StoredConfigFile } from "@coppice/proto/gen/coppice/repository/v1/physical_content";
import type { StoredStream } from "@coppice/proto/gen/coppice/repository/v1/stored_object";
import {
  archivedWalStep,
  archiveSettings,
  checkRecoverTimeline,
  checkRecoverTo,
  describeArchive,
  takenTimelinesStep,
  tellHowToStart,
} from "./recipe-archive.ts";
import { openArchiveStep } from "./recipe-folders.ts";
import { chooseWayStep } from "./recipe-timelines.ts";
import { forgetRecovery, formatSettings, quietSettings } from "../restore/settings/recovery-settings.ts";
import {
  askForIdentity,
  digestLines,
  hereDocument,
  quoteShell,
  readStream,
  showName,
} from "../../repository/recipe-text.ts";

/** What RECOVER.txt of a physical backup is written from. */
export interface PhysicalRecipeFacts {
  readonly clusterName: string;
  readonly backupId: string;
  readonly startTime: Date;
  /** Of the server, and so of every program that works on the data directory. */
  readonly major: number;
  /** age recipients of every stream; empty means not encrypted. */
  readonly recipients: readonly string[];
  readonly physical: PhysicalContent;
  /** Of the server: the archive with WAL that is not in the backup is named by it. */
  readonly systemIdentifier: string;
  /** Folder of the backup that an incremental builds on, beside its own; undefined for a full. */
  readonly parentFolder: string | undefined;
}

function streamsOf({ base, tablespaces, backupManifest, wal, configFiles }: PhysicalContent): StoredStream[] {
  const all = [
    base,
    ...tablespaces.map(({ stream }) => stream),
    wal,
    backupManifest,
    ...configFiles.map(({ stream }) => stream),
  ];
  return all.flatMap((stream) => stream ?? []);
}

/** Programs that it runs, besides the server's. */
function programsOf({ physical, recipients }: PhysicalRecipeFacts): string[] {
  const codecs = new Set([...streamsOf(physical), ...physical.archivedWal].map(({ codec }) => codec));
  const decoders = ["zstd", "gzip"].filter((name) => codecs.has(name));
  return ["bash", "tar", "sha256sum", ...decoders, ...(recipients.length > 0 ? ["age"] : [])];
}

function preamble(facts: PhysicalRecipeFacts): string {
  const { clusterName, backupId, startTime, major, recipients, physical, systemIdentifier, parentFolder } = facts;
  const encryption = askForIdentity(recipients);
  const programs = programsOf(facts);
  const archive = physical.walEmbedded ? "" : `\n${describeArchive({ systemIdentifier })}`;
  const places = physical.tablespaces.map(
    ({ oid, location }) => `
#   export TABLESPACE_${oid}=/another/folder    # instead of ${showName(location)}`,
  );
  const tablespaces =
    places.length === 0
      ? ""
      : `\n# Tablespaces go to where they were. For another empty folder, say so:${places.join("")}`;
  const parent =
    parentFolder === undefined
      ? ""
      : `
# It builds on the backup in the folder beside this one, ${parentFolder}, and needs the space
# of both beside PGDATA for a while. Where that folder lies elsewhere, say so:
#   export ${placeOfParent(facts)}=/another/${parentFolder}`;
  return `#!/bin/bash
# How to restore this backup without Coppice. It is also a script: run "bash RECOVER.txt" in this folder, as the user
# that the server is to run as (postgres, not root).
#
# ${parentFolder === undefined ? "Full" : "Incremental"} physical backup ${backupId} of the cluster ${showName(clusterName)}, begun ${startTime.toISOString()}: PostgreSQL ${major},
# data directory ${showName(physical.dataDirectory)}, WAL ${physical.startLsn} to ${physical.stopLsn} on timeline ${physical.timeline}.
#
# You need: the server programs of PostgreSQL ${major} (no other major version)${
    parentFolder === undefined ? "" : ", pg_combinebackup among them, in PATH"
  }, ${programs.join(", ")}.
# Say where the data directory is to be made, an absolute path that does not exist or is empty:
#   export PGDATA=/var/lib/postgresql/${major}/restored${encryption}${tablespaces}${parent}${archive}`;
}

const requirePrograms = (facts: PhysicalRecipeFacts) =>
  `for program in ${[...programsOf(facts), ...(facts.parentFolder === undefined ? [] : ["pg_combinebackup"])].join(" ")}; do
  command -v "$program" > /dev/null || {
    echo "$program is not in PATH" >&2
    exit 1
  }
done
if command -v postgres > /dev/null; then
  case "$(postgres --version)" in
    "postgres (PostgreSQL) ${facts.major}"[!0-9]*) ;;
    *)
      echo "in PATH is $(postgres --version), and the backup is of PostgreSQL ${facts.major}: put the programs of that first" >&2
      exit 1
      ;;
  esac
fi`;

const emptyFolder = `empty_folder() {
  mkdir -p -m 700 "$1"
  [ -z "$(ls -A "$1")" ] || { echo "$1 is not empty; what an earlier try has left there can be removed" >&2; exit 1; }
}`;

/** Of the environment variable that says where a backup's parent is. */
function placeOfParent({ backupId }: PhysicalRecipeFacts): string {
  return `PARENT_OF_${backupId.replaceAll(/[^0-9A-Za-z_]/g, "_")}`;
}

const linkTablespace = String.raw`# Into the folder $2, which the server finds by a link and by tablespace_map, where backslashes and line ends are escaped.
link_tablespace() {
  rm -rf "$PGDATA/pg_tblspc/$1"
  ln -s "$2" "$PGDATA/pg_tblspc/$1"
  printf '%s\n' "$1 $(printf '%s' "$2" | sed -e 's/\\/\\\\/g' -e '$!s/$/\\/')" >> "$PGDATA/tablespace_map"
}`;

/** Not by tar's own --directory, which takes backslashes for escapes. */
const unpackInto = (folder: string) => `(cd "${folder}" && exec tar --extract --file=-)`;

/** Data directory, tablespaces inside it, and the list of all files. */
function unpackFunction({ base, tablespaces, backupManifest }: PhysicalContent): string {
  const into = (stream: StoredStream, folder: string) => `  ${readStream(stream)} | ${unpackInto(folder)}`;
  return [
    "# What this backup holds, as it is, into the empty folder $1; tablespaces go where $2 says: inside, or to their places.",
    "unpack() {",
    '  empty_folder "$1"',
    ...(base ? [into(base, "$1")] : []),
    ...(tablespaces.length > 0 ? ['  if [ "$2" != inside ]; then rm -f "$1/tablespace_map"; fi'] : []),
    ...tablespaces.flatMap(({ oid, stream }) => [
      `  if [ "$2" = inside ]; then`,
      `    rm -rf "$1/pg_tblspc/${oid}"`,
      `    mkdir -m 700 "$1/pg_tblspc/${oid}"`,
      `  else`,
      `    link_tablespace ${oid} "$TABLESPACE_${oid}"`,
      `  fi`,
      ...(stream ? [into(stream, `$1/pg_tblspc/${oid}`)] : []),
    ]),
    ...(backupManifest ? [`  ${readStream(backupManifest)} > "$1/backup_manifest"`] : []),
    "}",
  ].join("\n");
}

/** What a backup that builds on this one calls: each of the chain gets a numbered folder, the full one first. */
function unpackPart(facts: PhysicalRecipeFacts): string {
  const place = placeOfParent(facts);
  const parent =
    facts.parentFolder === undefined
      ? []
      : [`  (cd "\${${place}:-../${facts.parentFolder}}" && exec bash RECOVER.txt part "$1")`];
  return `# This backup, after those that it builds on, each into a folder of its own below the folder $1.
unpack_part() {
${parent.map((line) => `${line}\n`).join("")}  local parts=("$1"/*)
  [ -e "\${parts[0]}" ] || parts=()
  unpack "$1/$(printf %05d "\${#parts[@]}")" inside
}
if [ "\${1:-}" = part ]; then
  unpack_part "$2"
  exit
fi`;
}

function placeTablespaces({ tablespaces }: PhysicalContent): string[] {
  if (tablespaces.length === 0) return [];
  const names = tablespaces.map(({ oid }) => `TABLESPACE_${oid}`);
  const places = tablespaces.map(
    ({ oid, location }) => `TABLESPACE_${oid}=\${TABLESPACE_${oid}:-${quoteShell(location)}}`,
  );
  // pg_verifybackup takes what lies in one for a part of it, which is in no manifest.
  return [
    `# 2. The places of tablespaces: none in another one, nor in the data directory, nor the other way round.
${places.join("\n")}
places=()
for place in "$PGDATA" ${names.map((name) => `"$${name}"`).join(" ")}; do places+=("$(printf '%s/' "$place" | sed -E 's,/+,/,g')"); done
for one in "\${!places[@]}"; do for other in "\${!places[@]}"; do
  [ "$one" = "$other" ] || case "\${places[one]}" in "\${places[other]}"*)
    echo "\${places[one]%/} lies in \${places[other]%/}: give each tablespace a folder of its own by TABLESPACE_..., as this script says at its beginning" >&2
    exit 1 ;;
  esac
done; done
${names.map((name) => `empty_folder "$${name}"`).join("\n")}`,
  ];
}

function dataDirectorySteps({ physical, parentFolder }: PhysicalRecipeFacts): string {
  const { tablespaces } = physical;
  if (parentFolder === undefined)
    return `# 3. The data directory. Where tablespaces are now replaces where they were.
unpack "$PGDATA" placed`;
  const moves = tablespaces.map(
    ({ oid }) => `mv "$PGDATA/pg_tblspc/${oid}"/* "$TABLESPACE_${oid}"\nlink_tablespace ${oid} "$TABLESPACE_${oid}"`,
  );
  return `# 3. The data directory, put together from this backup and all that it builds on.
empty_folder "$PGDATA.parts"
unpack_part "$PGDATA.parts"
pg_combinebackup --output="$PGDATA" "$PGDATA.parts"/*
rm -rf "$PGDATA.parts"
${[...(tablespaces.length > 0 ? ['rm -f "$PGDATA/tablespace_map"'] : []), ...moves].join("\n")}`;
}

const targets: Readonly<Record<string, string>> = {
  config_file: "postgresql.conf",
  hba_file: "pg_hba.conf",
  ident_file: "pg_ident.conf",
};

const placeSettings = "data_directory|hba_file|ident_file|external_pid_file|log_directory";

/** Drops what says where things were on the source. What was included from outside follows at the end. */
function filterOf({ role }: StoredConfigFile): string {
  if (role === "hba_file" || role === "ident_file") return "";
  return ` | sed -E '/^[[:space:]]*(${placeSettings}|include|include_dir|include_if_exists)[[:space:]=]/d'`;
}

function configStep(file: StoredConfigFile): string {
  const { path, role, stream, problem } = file;
  if (!stream) return `# ${showName(path)} is not in the backup: ${showName(problem)}`;
  const target = targets[role] ?? "postgresql.conf";
  return `# ${showName(path)}\n${readStream(stream)}${filterOf(file)} ${role === "include" ? ">>" : ">"} "$PGDATA/${target}"`;
}

/** In place of what neither the data directory nor the backup's own files hold; without them no server starts. */
const plainFiles = ({ requiredSettings }: PhysicalContent) => `if [ ! -e "$PGDATA/postgresql.conf" ]; then
  echo "the backup holds no postgresql.conf: a plain one was written" >&2
  ${hereDocument('cat > "$PGDATA/postgresql.conf"', formatSettings(Object.entries(requiredSettings)).trimEnd())}
fi
if [ ! -e "$PGDATA/pg_hba.conf" ]; then
  echo "the backup holds no pg_hba.conf: one was written that lets in local users by their own names" >&2
  echo "local all all peer" > "$PGDATA/pg_hba.conf"
fi
[ -e "$PGDATA/pg_ident.conf" ] || : > "$PGDATA/pg_ident.conf"`;

function configSteps(physical: PhysicalContent): string[] {
  const { configFiles } = physical;
  if (configFiles.length === 0) return [plainFiles(physical)];
  const isInclude = ({ role }: StoredConfigFile) => role === "include";
  // Its own file is in the archive, and names what lies outside.
  const isInside = !configFiles.some(({ role }) => role === "config_file");
  const own = String.raw`sed -i -E "/^[[:space:]]*(include|include_dir|include_if_exists)[[:space:]=]+'?\//d" "$PGDATA/postgresql.conf"`;
  return [
    [
      "# Configuration that lay outside the data directory. Look it through: files that it names, such as certificates,",
      "# have to be on this host too.",
      ...configFiles.filter((file) => !isInclude(file)).map(configStep),
      plainFiles(physical),
      ...(isInside ? [own] : []),
      ...configFiles.filter(isInclude).map(configStep),
    ].join("\n"),
  ];
}

const settings = formatSettings([
  ...quietSettings,
  // A standby that lags on purpose has it, and archive recovery heeds it.
  ["recovery_min_apply_delay", "0"],
  ["hot_standby", "on"],
  ["recovery_target_action", "promote"],
  ["recovery_end_command", forgetRecovery],
  ["archive_cleanup_command", ""],
]).trimEnd();

/** After a standby's backup there may be no record at which a server could see that it is where it was to stop. */
function settingsOfEmbedded({ fromStandby }: PhysicalContent): string {
  return `restore_command = 'false'
${fromStandby ? "" : "recovery_target = 'immediate'\n"}recovery_target_timeline = 'current'`;
}

const refuseRecoverTo = `[ -z "\${RECOVER_TO:-}" ] || {
  echo "RECOVER_TO is set, and this backup holds the WAL to its own end alone: unset it, and it recovers to there" >&2
  exit 1
}`;

const verifyUnpacked =
  'if command -v pg_verifybackup > /dev/null; then pg_verifybackup --quiet --no-parse-wal --ignore=tablespace_map "$PGDATA"; fi';

function walSteps({ physical, systemIdentifier }: PhysicalRecipeFacts): string {
  if (physical.wal)
    return `# 4. The WAL that it needs, and a check of every file where pg_verifybackup is there.
${readStream(physical.wal)} | ${unpackInto("$PGDATA/pg_wal")}
${verifyUnpacked}
${takenTimelinesStep({ systemIdentifier })}`;
  return `# 4. A check of every file where pg_verifybackup is there, and of the WAL that it needs in the archive.
${verifyUnpacked}
${archivedWalStep({ physical, systemIdentifier })}`;
}

/**
 * Of all that is in the data directory: a file that postgresql.conf includes could name the source's, and have that started,
 * or its log, and have that written.
 */
const ownPlaceStep = `(shopt -s globstar nullglob
for file in "$PGDATA"/**/*.conf; do sed -i -E '/^[[:space:]]*(recovery_target|(${placeSettings})[[:space:]=])/d' "$file"; done)`;

const requireOwnPlace = `if command -v postgres > /dev/null; then
  place=$(postgres -C data_directory -D "$PGDATA") || { echo "its server would not start, as it says above: mend the configuration in $PGDATA, and start it then" >&2; exit 1; }
  [ "$place" -ef "$PGDATA" ] || { echo "its server would work in $place: take data_directory out of what postgresql.conf there includes" >&2; exit 1; }
fi`;

function recoveryStep({ physical }: PhysicalRecipeFacts): string {
  const to = physical.wal ? "up to the end of the backup" : "as RECOVER_TO says, from the archive";
  return `# 5. Recovery ${to}. It archives nowhere, follows nobody, and runs no
# subscriptions and no jobs of pg_cron until you say so: remove these lines then. Those of the target it removes by itself.
rm -f "$PGDATA/standby.signal"
${ownPlaceStep}
${hereDocument('cat >> "$PGDATA/postgresql.auto.conf"', physical.wal ? `${settings}\n${settingsOfEmbedded(physical)}` : settings)}
${physical.wal ? "" : `${archiveSettings("recovery_target = 'immediate'")}\n`}: > "$PGDATA/recovery.signal"
chmod 700 "$PGDATA"
${requireOwnPlace}`;
}

/**
 * The text of RECOVER.txt: comments for people and, between them, the exact commands with standard tools, which make a
 * data directory that the server recovers to the end of the backup when it is started.
 */
export function formatPhysicalRecipe(facts: PhysicalRecipeFacts): string {
  const { physical, recipients } = facts;
  const { base, wal, archivedWal, backupManifest } = physical;
  if (!base || !backupManifest || (!wal && archivedWal.length === 0))
    throw new Error("a physical backup lacks one of its archives");
  const objects = streamsOf(physical).flatMap((stream) => stream.objects);
  return `${[
    preamble(facts),
    "set -euo pipefail\numask 077",
    requirePrograms(facts),
    ...(recipients.length > 0 ? [': "${IDENTITY:?set it to the path of an age identity file}"'] : []),
    emptyFolder,
    ...(physical.tablespaces.length > 0 ? [linkTablespace] : []),
    unpackFunction(physical),
    `# 1. The bytes are the ones that were stored.\n${hereDocument("sha256sum --check --quiet -", digestLines(objects))}`,
    unpackPart(facts),
    ...(wal
      ? [refuseRecoverTo]
      : [
          checkRecoverTo,
          openArchiveStep({ systemIdentifier: facts.systemIdentifier }),
          checkRecoverTimeline({ systemIdentifier: facts.systemIdentifier, timeline: physical.timeline }),
          chooseWayStep(facts),
        ]),
    ': "${PGDATA:?set it to the path of the data directory to make}"\nempty_folder "$PGDATA"',
    ...placeTablespaces(physical),
    dataDirectorySteps(facts),
    walSteps(facts),
    ...configSteps(physical),
    recoveryStep(facts),
    tellHowToStart,
  ].join("\n\n")}\n`;
}
