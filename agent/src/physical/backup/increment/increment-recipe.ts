import type { PhysicalContent } from "@coppice/proto/gen/coppice/repository/v1/physical_content";
import { askForIdentity, showName } from "../../../repository/recipe-text.ts";
import {
  archivedWalStep,
  archiveSettings,
  checkRecoverTimeline,
  checkRecoverTo,
  describeArchive,
  tellHowToStart,
} from "../recipe-archive.ts";
import { openArchiveStep } from "../recipe-folders.ts";
import { chooseWayStep } from "../recipe-timelines.ts";

/** What RECOVER.txt of a WAL increment is written from. */
export interface IncrementRecipeFacts {
  readonly clusterName: string;
  readonly backupId: string;
  /** When its restore point was marked. */
  readonly endTime: Date;
  readonly major: number;
  /** age recipients of the archive; empty means not encrypted. */
  readonly recipients: readonly string[];
  readonly physical: PhysicalContent;
  /** Of the server: the archive is named by it. */
  readonly systemIdentifier: string;
  /** Folder of the backup that it goes on from, beside its own. */
  readonly parentFolder: string;
}

function preamble(facts: IncrementRecipeFacts, parent: string): string {
  const { clusterName, backupId, endTime, major, recipients, physical, systemIdentifier, parentFolder } = facts;
  const encryption = askForIdentity(recipients);
  return `#!/bin/bash
# How to restore this backup without Coppice. It is also a script: run "bash RECOVER.txt" in this folder, as the user
# that the server is to run as (postgres, not root).
#
# Incremental backup by archived WAL ${backupId} of the cluster ${showName(clusterName)}, taken ${endTime.toISOString()}:
# PostgreSQL ${major}, WAL ${physical.startLsn} to ${physical.stopLsn} on timeline ${physical.timeline}, which ends with the restore point
# ${physical.restorePoint}.
#
# It holds no files: the backup in the folder beside this one, ${parentFolder}, is restored by its own RECOVER.txt, and
# then the server replays the archive's WAL to the restore point. Read the head of that file too: what it asks for, programs
# and places of tablespaces, is asked for here. Where that folder lies elsewhere, say so:
#   export ${parent}=/another/${parentFolder}
#
# You need: what that one needs, bash, sha256sum, zstd${recipients.length > 0 ? ", age" : ""}.
# Say where the data directory is to be made, an absolute path that does not exist or is empty:
#   export PGDATA=/var/lib/postgresql/${major}/restored${encryption}
${describeArchive({ systemIdentifier })}`;
}

/**
 * The text of RECOVER.txt of a WAL increment: comments for people and the commands that restore what it goes on from, by
 * that one's RECOVER.txt, and have its server recover to the restore point when it is started.
 */
export function formatIncrementRecipe(facts: IncrementRecipeFacts): string {
  const { backupId, physical, recipients, systemIdentifier, parentFolder } = facts;
  const parent = `PARENT_OF_${backupId.replaceAll(/[^0-9A-Za-z_]/g, "_")}`;
  return `${[
    preamble(facts, parent),
    "set -euo pipefail\numask 077",
    ...(recipients.length > 0
      ? [
          `: "\${IDENTITY:?set it to the path of an age identity file}"
case "$IDENTITY" in
  /*) ;;
  *) IDENTITY=$PWD/$IDENTITY ;;
esac
export IDENTITY`,
        ]
      : []),
    checkRecoverTo,
    openArchiveStep({ systemIdentifier }),
    checkRecoverTimeline({ systemIdentifier, timeline: physical.timeline }),
    chooseWayStep({ systemIdentifier, physical }),
    ': "${PGDATA:?set it to the path of the data directory to make}"\nexport PGDATA',
    `# 1. What it goes on from.
(cd "\${${parent}:-../${parentFolder}}" && RECOVER_TO= RECOVER_TIMELINE= bash RECOVER.txt > /dev/null)`,
    `# 2. The WAL from there to the restore point is in the archive as it was stored.
${archivedWalStep({ physical, systemIdentifier })}`,
    `# 3. Recovery as RECOVER_TO says, from the archive, in place of how far what it goes on from would have recovered.
sed -i -E '/^[[:space:]]*(recovery_target(_name|_time|_timeline)?|restore_command)[[:space:]=]/d' "$PGDATA/postgresql.auto.conf"
${archiveSettings(`recovery_target_name = '${physical.restorePoint}'`)}`,
    tellHowToStart,
  ].join("\n\n")}\n`;
}
