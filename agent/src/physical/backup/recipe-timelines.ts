// How RECOVER.txt, and what it leaves to the server as restore_command, tell the end of the archive from a hole in it.
import type { PhysicalContent } from "@coppice/proto/gen/coppice/repository/v1/physical_content";
import { parseLsn } from "@coppice/proto/kit/wal/lsn";

/** What of a backup says which of the archive's segments it goes on with. */
export type RecipeWal = Pick<PhysicalContent, "startLsn" | "stopLsn" | "timeline" | "walSegmentBytes">;

/** The function that writes out a file of the archive as it was before it was stored. */
export const plainWal = String.raw`plain_wal() {
  if [ "$(head -c 19 "$1" | tr -d '\0')" = age-encryption.org/ ]; then
    age --decrypt --identity="${"$"}{IDENTITY:-}" "$1" | zstd -dcq
  else
    zstd -dcq < "$1"
  fi
}`;

/** Segments by whose number names are made: the first eight digits behind the timeline's count such runs. */
const segmentsPerRun = ({ walSegmentBytes }: RecipeWal) => 2n ** 32n / walSegmentBytes;

/** The function that tells a hole from the end of the archive. */
export const laterWal = (
  wal: RecipeWal,
) => String.raw`# Prints the next segment that the archive $WAL holds behind the segment $1, which it lacks; fails where there is none. Lines of
# TIMELINES are the way there, the newest first: timeline, number of its first segment, number of its last one.
later_wal() {
  local timeline first last file name number nearest="" next
  [[ $1 =~ ^[0-9A-F]{24}$ ]] || return 1
  local own=$((16#${"$"}{1:0:8})) wanted=$((16#${"$"}{1:8:8} * ${segmentsPerRun(wal)} + 16#${"$"}{1:16:8}))
  while read -r timeline first last; do
    # What a timeline has behind the one that left it is not on the way.
    if ((timeline == own && wanted > last)); then return 1; fi
    if ((timeline < own)); then continue; fi
    for file in "$WAL/$(printf %08X "$timeline")"/*/*; do
      name=${"$"}{file##*/}
      [[ $name =~ ^[0-9A-F]{24}(\.partial\.[0-9A-F]{16})?$ ]] || continue
      number=$((16#${"$"}{name:8:8} * ${segmentsPerRun(wal)} + 16#${"$"}{name:16:8}))
      if ((number <= wanted || number < first || number > last)); then continue; fi
      if [ -z "$nearest" ] || ((number < nearest)); then nearest=$number next=$name; fi
    done
  done <<< "$TIMELINES"
  [ -n "$nearest" ] && echo "$next"
}`;

/**
 * The commands that keep from the server what a timeline has behind the one that left it: they end with 1 where all of the
 * segment $1 lies there, and say in `kept` how many bytes are on the way where a part of it does.
 */
export const keptOfFork = (
  wal: RecipeWal,
) => String.raw`# What a timeline has behind the one that left it was abandoned: the server would replay it where the later one has nothing
# yet. Lines of FORKS: timeline, number of its last segment on the way, bytes of that which are.
kept=
if [[ $1 =~ ^[0-9A-F]{24}$ ]]; then
  number=$((16#${"$"}{1:8:8} * ${segmentsPerRun(wal)} + 16#${"$"}{1:16:8}))
  while read -r timeline last bytes; do
    if [ "$timeline" != $((16#${"$"}{1:0:8})) ]; then continue; fi
    if ((number > last)); then exit 1; fi
    if ((number == last)); then kept=$bytes; fi
  done <<< "$FORKS"
fi`;

/**
 * The commands that find the way which recovery by RECOVER_TO takes, refuse a timeline that is not there or does not go on
 * from the backup, and name a hole before anything is unpacked.
 */
export function chooseWayStep({
  systemIdentifier,
  physical,
}: {
  systemIdentifier: string;
  physical: RecipeWal;
}): string {
  const { startLsn, stopLsn, timeline, walSegmentBytes } = physical;
  const lastNumber = 2n ** 63n - 1n;
  return String.raw`# Which timeline is recovered to, as the server would choose it, and by which it comes there.
${plainWal}
${laterWal(physical)}
choose_way() {
  local WAL=${"$"}{WAL:-../../wal/${systemIdentifier}} history text parent at number first=0
  target=${"$"}{RECOVER_TIMELINE:-}
  if [ -z "$target" ]; then
    target=${timeline}
    while [ -e "$WAL/history/$(printf %08X.history $((target + 1)))" ]; do target=$((target + 1)); done
  fi
  history=$WAL/history/$(printf %08X.history "$target")
  if [ -e "$history" ]; then
    text=$(plain_wal "$history")
    while read -r parent at _; do
      [[ $parent =~ ^[0-9]+$ ]] || continue
      number=$((16#${"$"}{at%/*} * 2 ** 32 + 16#${"$"}{at#*/}))
      if [ "$parent" = ${timeline} ] && ((number < ${parseLsn(stopLsn)})); then
        echo "timeline $target left ${timeline} at $at, before this backup ends at ${stopLsn}: set RECOVER_TIMELINE to one that goes on from it, such as ${timeline}, or recover a backup that ended before" >&2
        exit 1
      fi
      FORKS="$parent $(((number - 1) / ${walSegmentBytes})) $(((number - 1) % ${walSegmentBytes} + 1))"$'\n'$FORKS
      TIMELINES="$parent $first $(((number - 1) / ${walSegmentBytes}))"$'\n'$TIMELINES
      first=$((number / ${walSegmentBytes}))
    done <<< "$text"
  elif [ "$target" != 1 ] && [ "$target" != ${timeline} ]; then
    echo "the archive has no timeline $target, for $history is not there: set RECOVER_TIMELINE to one that it has" >&2
    exit 1
  fi
  TIMELINES="$target $first ${lastNumber}"$'\n'$TIMELINES
  [[ $'\n'$TIMELINES == *$'\n'"${timeline} "* ]] || {
    echo "timeline $target does not go on from this backup, which is of ${timeline}: set RECOVER_TIMELINE to one that does" >&2
    exit 1
  }
  # The server refuses a number without a history.
  [ -e "$history" ] || target=current
  find_hole
}
find_hole() {
  local number=${parseLsn(startLsn) / walSegmentBytes} timeline first last name found
  while :; do
    found=
    while read -r timeline first last; do
      if [ -n "$found" ] || [ -z "$timeline" ] || ((number < first || number > last)); then continue; fi
      printf -v name %08X%08X%08X "$timeline" $((number / ${segmentsPerRun(physical)})) $((number % ${segmentsPerRun(physical)}))
      if [ -e "$WAL/${"$"}{name:0:8}/${"$"}{name:0:16}/$name" ]; then
        found=yes
      elif later=$(later_wal "$name"); then
        hole=$name
        echo "the archive lacks $hole, and holds later WAL, $later: the server will stop in front of that, and its log say what can be done; RECOVER_TO can be a time before" >&2
        return
      fi
    done <<< "$TIMELINES"
    [ -n "$found" ] || return 0
    number=$((number + 1))
  done
}
TIMELINES=
FORKS=
hole=
if [ -n "${"$"}{RECOVER_TO:-}" ]; then choose_way; fi`;
}
