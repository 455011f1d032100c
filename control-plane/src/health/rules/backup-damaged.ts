import { Severity } from "@coppice/proto/gen/coppice/control/v1/finding";
import type { Rule } from "./facts.ts";

/** Backups in which the last verification found damage, one finding a cluster: what cannot be restored is no backup. */
export const backupDamaged: Rule = ({ damagedCopies }) =>
  [...Map.groupBy(damagedCopies, ({ clusterId }) => clusterId).values()].flatMap((copies) => {
    const [newest, ...others] = copies;
    if (newest === undefined) return [];
    const { clusterId, clusterName, backupId, repositoryName, problem } = newest;
    const about = problem === "" ? "" : `: ${problem}`;
    const more =
      others.length === 0 ? "" : ` (and ${others.length} more, see \`coppice backup list --cluster ${clusterName}\`)`;
    return {
      rule: "backup-damaged",
      subject: clusterId,
      subjectName: clusterName,
      severity: Severity.CRITICAL,
      since: new Date(Math.min(...copies.map(({ goodTime }) => goodTime.getTime()))),
      message: `backup ${backupId} of cluster ${clusterName} is damaged in repository ${repositoryName}${about}${more}`,
      fix: `coppice backup create ${clusterName}    # then: coppice backup delete ${backupId}`,
    };
  });
