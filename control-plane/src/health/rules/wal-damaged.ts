import { Severity } from "@coppice/proto/gen/coppice/control/v1/finding";
import { formatLsn } from "@coppice/proto/kit/wal/lsn";
import type { Rule } from "./facts.ts";

/** Archived WAL that is damaged or gone, one finding a cluster: no backup from before it leads past it any more. */
export const walDamaged: Rule = ({ lostWal }) =>
  [...Map.groupBy(lostWal, ({ clusterId }) => clusterId).values()].flatMap((runs) => {
    const [first, ...others] = runs;
    if (first === undefined) return [];
    const { clusterId, clusterName, repositoryName, startLsn, endLsn } = first;
    const more = others.length === 0 ? "" : ` (and ${others.length} more stretches)`;
    return {
      rule: "wal-damaged",
      subject: clusterId,
      subjectName: clusterName,
      severity: Severity.WARNING,
      since: new Date(Math.min(...runs.map(({ foundTime }) => foundTime.getTime()))),
      message: `archived WAL of cluster ${clusterName} from ${formatLsn(startLsn)} to ${formatLsn(endLsn)} is damaged or gone in repository ${repositoryName}${more}: no backup from before it can be recovered past it`,
      fix: `coppice wal verify ${clusterName}    # when the objects are back; what is left: coppice wal status ${clusterName}`,
    };
  });
