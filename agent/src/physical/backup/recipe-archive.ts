// What RECOVER.txt says where the WAL that a backup needs is in the repository's archive.
import type { PhysicalContent } from "@coppice/proto/gen/coppice/repository/v1/physical_content";
import { requireOpenArchive, tellClosedFolder } from "./recipe-folders.ts";
import { keptOfFork, laterWal, plainWal, type RecipeWal } from "./recipe-timelines.ts";
import { digestLines, hereDocument } from "../../repository/recipe-text.ts";

/** The lines of its head that say where the archive is, and how far it is recovered. */
export function describeArchive({ systemIdentifier }: { readonly systemIdentifier: string }): string {
  return `# It needs WAL of the archive, ../../wal/${systemIdentifier} seen from this folder, and so does the server that you
# start later, for as long as it recovers: it must be able to read it. Where that folder lies elsewhere, say so:
#   export WAL=/another/${systemIdentifier}
# The server recovers to the end of this backup. For the latest point in the archive, or a time with its
# offset (or Z), say:
#   export RECOVER_TO=latest
#   export RECOVER_TO='2026-11-21 14:03:07+01'
# Where the archive lacks a segment and holds later ones, it stops there, and its log says what can be done.
# It follows the newest timeline then. Where the server had begun a new one, by a restore or a promotion, that may not be
# the one that was written at that time, and a time is refused until you say which one is meant:
#   export RECOVER_TIMELINE=1
# A tablespace that was made after this backup is made again in the very folder that it had then. Where a server uses that
# folder, recover to a time before, or on another host with an empty one: else recovery writes into that server's tables.`;
}

/** The commands that refuse a RECOVER_TO that no server would take, or that could mean several times. */
export const checkRecoverTo = String.raw`case "${"$"}{RECOVER_TO:-}" in
  "" | latest) ;;
  *)
    is_time() {
      local date='^([0-9]{4})-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])'
      local clock='[T ](([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\.[0-9]{1,6})?)?)'
      local zone=' ?(Z|UTC|GMT|[+-](0[0-9]|1[0-5])(:?[0-5][0-9])?)$'
      [[ $RECOVER_TO =~ $date$clock$zone ]] || return 1
      local year=$((10#${"$"}{BASH_REMATCH[1]})) month=$((10#${"$"}{BASH_REMATCH[2]})) day=$((10#${"$"}{BASH_REMATCH[3]}))
      local days=(0 31 28 31 30 31 30 31 31 30 31 30 31)
      if ((year % 4 == 0 && (year % 100 != 0 || year % 400 == 0))); then days[2]=29; fi
      ((year > 0 && day <= days[month])) || return 1
      # PostgreSQL takes no Z here.
      local offset=${"$"}{BASH_REMATCH[8]}
      case $offset in [ZUG]*) offset=+00 ;; esac
      RECOVER_TO="${"$"}{RECOVER_TO:0:10} ${"$"}{BASH_REMATCH[4]}$offset"
    }
    is_time || {
      echo "RECOVER_TO is neither empty, nor latest, nor a time with its offset such as 2026-11-21 14:03:07+01: $RECOVER_TO" >&2
      exit 1
    }
    ;;
esac`;

/**
 * The commands that refuse a time where the archive has timelines that began after the backup, until one of them is named:
 * the newest would lack what was committed on one that it had left before.
 */
export function checkRecoverTimeline({
  systemIdentifier,
  timeline,
}: {
  readonly systemIdentifier: string;
  readonly timeline: number;
}): string {
  return `case "\${RECOVER_TIMELINE:-}" in
  *[!0-9]* | 0*)
    echo "RECOVER_TIMELINE is no number of a timeline: $RECOVER_TIMELINE" >&2
    exit 1
    ;;
esac
case "\${RECOVER_TO:-},\${RECOVER_TIMELINE:-}" in
  , | latest, | ?*,?*) ;;
  ,*)
    echo "RECOVER_TIMELINE is set, and RECOVER_TO says nothing: set it to latest, or to a time" >&2
    exit 1
    ;;
  *)
    later=
    for file in "\${WAL:-../../wal/${systemIdentifier}}"/history/*.history; do
      [ -e "$file" ] || continue
      number=\${file##*/}
      number=$((16#\${number%.history}))
      if ((number > ${timeline})); then later="$later $number"; fi
    done
    [ -z "$later" ] || {
      echo "the archive has timelines that began after this backup, which is of ${timeline}:$later. Set RECOVER_TIMELINE to the one that was written at $RECOVER_TO" >&2
      exit 1
    }
    ;;
esac`;
}

const scriptOf = (
  wal: RecipeWal,
) => String.raw`# Fetches the file $1 of the archive to the path $2, for restore_command. The server takes 1 for "there is none", and
# ends recovery there; 126 stops it, so that trouble, or a hole with later WAL behind it, does not end recovery early.
set -u -o pipefail
${requireOpenArchive(126)}
case $1 in
  *.history | *.backup) file=$WAL/history/$1 ;;
  *) file=$WAL/$(printf '%.8s/%.16s' "$1" "$1")/$1 ;;
esac
${keptOfFork(wal)}
${laterWal(wal)}
if [ ! -e "$file" ]; then
  if later=$(later_wal "$1"); then
    # The server takes it from there.
    if [ -e "pg_wal/$1" ]; then exit 1; fi
    echo "the archive lacks $1, and holds later WAL, $later: recovery would end in front of that, and what was committed since be lost. Put $file back, or the segment as the server wrote it into pg_wal, and start the server again. Where nobody has it, and what was committed before it is all that can be had: empty TIMELINES at the head of fetch_wal.bash, take recovery_target_time out of postgresql.auto.conf, and start it again" >&2
    exit 126
  fi
  # Of a segment that was never stored whole, the longest part.
  for part in "$file".partial.*; do
    if [ -e "$part" ]; then file=$part; fi
  done
fi
[ -e "$file" ] || exit 1
${plainWal}
write_wal() {
  plain_wal "$file" > "$1" || return
  [ -z "$kept" ] || { truncate -s "$kept" "$1" && truncate -s ${wal.walSegmentBytes} "$1"; }
}
write_wal "$2" || { rm -f "$2"; exit 126; }`;

/** The commands that check the files of WAL that the backup needs, and write what restore_command runs. */
export function archivedWalStep({
  physical,
  systemIdentifier,
}: {
  readonly physical: Pick<PhysicalContent, "archivedWal"> & RecipeWal;
  readonly systemIdentifier: string;
}): string {
  const objects = physical.archivedWal.flatMap((stream) => stream.objects);
  return `WAL=$(cd "\${WAL:-../../wal/${systemIdentifier}}" && pwd)
${hereDocument('(cd "$WAL" && exec sha256sum --check --quiet -)', digestLines(objects))}
case "\${IDENTITY:-}" in
  "" | /*) ;;
  *) IDENTITY=$PWD/$IDENTITY ;;
esac
{
  printf 'WAL=%q\\nIDENTITY=%q\\nTIMELINES=%q\\nFORKS=%q\\n' "$WAL" "\${IDENTITY:-}" "$TIMELINES" "$FORKS"
${hereDocument("  cat", scriptOf(physical))}
} > "$PGDATA/fetch_wal.bash"`;
}

/**
 * The commands that give a data directory, which recovers without the archive, the histories of timelines that are taken
 * there, where there is an archive. One that cannot be read is told of and left out.
 */
export const takenTimelinesStep = ({
  systemIdentifier,
}: {
  readonly systemIdentifier: string;
}) => String.raw`# Timelines of this server that are taken: when it ends its recovery it is to begin another one. They are in the archive
# beside this folder, where there is one; where that lies elsewhere, say so: export WAL=/another/${systemIdentifier}
${tellClosedFolder({ systemIdentifier })}
${plainWal}
for history in "${"$"}{WAL:-../../wal/${systemIdentifier}}"/history/*.history; do
  taken=$PGDATA/pg_wal/${"$"}{history##*/}
  if [ ! -e "$history" ] || [ -e "$taken" ]; then continue; fi
  plain_wal "$history" > "$taken" || {
    rm -f "$taken"
    echo "$history cannot be read: the server may end its recovery on a timeline that is taken" >&2
  }
done`;

/**
 * The commands that add how far the server recovers, and from where; `target` is where that is when nothing is said, as a
 * line of its configuration.
 */
export const archiveSettings = (target: string) => `{
  echo "restore_command = 'bash fetch_wal.bash %f %p'"
  case "\${RECOVER_TO:-}" in
    "") printf '%s\\n' "${target}" "recovery_target_timeline = 'current'" ;;
    latest) echo "recovery_target_timeline = '$target'" ;;
    *) printf '%s\\n' "recovery_target_time = '$RECOVER_TO'" "recovery_target_timeline = '$target'" ;;
  esac
  # Else it would ask for what is not there while it reads ahead of the time.
  if [ -n "$hole" ]; then echo "recovery_prefetch = off"; fi
} >> "$PGDATA/postgresql.auto.conf"`;

/** Its last commands. */
export const tellHowToStart = `echo "restored; now start it: pg_ctl --pgdata=\${PGDATA@Q} --wait start"
case "\${RECOVER_TO:-}" in
  "" | latest) ;;
  *) echo "where the archive holds nothing that was committed after that time it ends with FATAL, recovery ended before configured recovery target was reached: see that no later WAL is missing there, take recovery_target_time out of postgresql.auto.conf, and start it again" ;;
esac`;
