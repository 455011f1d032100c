import { type Backup, CopyState } from "@coppice/proto/gen/coppice/control/v1/backup";
import { isWholeCluster } from "@coppice/proto/kit/repository/default-set";
import { formatSize } from "@coppice/proto/kit/size";
import { isGoodBackup } from "../../client/is-good-backup.ts";
import type { Choice } from "../../input/choose.ts";
import { formatRelative } from "../../output/elapsed.ts";
import { timeOf } from "../../output/time.ts";

/** What somebody wants who only presses Enter comes first: good and of everything, then good and of a part. */
function rank(backup: Backup): number {
  if (!isGoodBackup(backup)) return 2;
  return isWholeCluster(backup.dump) ? 0 : 1;
}

/** Dumps to choose from, given newest first, each with its age, sizes and what there is to say against it. */
export function dumpChoices(dumps: readonly Backup[], now: Date): Choice<Backup>[] {
  return dumps
    .toSorted((one, other) => rank(one) - rank(other))
    .map((backup) => {
      const age = formatRelative(timeOf(backup.startTime), now);
      const sizes = `${formatSize(backup.databaseBytes)} → ${formatSize(backup.storedBytes)}`;
      const held = isWholeCluster(backup.dump) ? "complete" : "selection";
      const isDamaged = backup.copies.every(({ state }) => state === CopyState.DAMAGED) ? ", damaged" : "";
      return { name: `${age}  ${sizes}  ${backup.complete ? held : "incomplete"}${isDamaged}`, value: backup };
    });
}
