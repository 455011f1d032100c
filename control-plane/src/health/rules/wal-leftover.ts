import { Severity } from "@coppice/proto/gen/coppice/control/v1/finding";
import type { LeftoverFact, Rule } from "./facts.ts";

/** A server that keeps WAL for an archive that has ended: it does until its disk is full. */
export const walLeftover: Rule = ({ leftovers }) =>
  leftovers.map((left) => {
    const { clusterId, clusterName, hostName, slot, isCommanded, problem, since } = left;
    const what = isCommanded ? `archive_command, or the slot ${slot},` : `the slot ${slot}`;
    return {
      rule: "wal-leftover",
      subject: clusterId,
      subjectName: clusterName || clusterId,
      severity: Severity.CRITICAL,
      since,
      message: `${what} may keep all WAL of cluster ${clusterName || clusterId} on its server, for an archive that has ended; the agent of ${hostName} goes on trying to take it away: ${problem}`,
      fix: fixOf(left),
    };
  });

function fixOf({ clusterId, slot, isCommanded, present }: LeftoverFact): string {
  const command = isCommanded
    ? "where its archive_command names coppice-wal: ALTER SYSTEM RESET archive_command; SELECT pg_reload_conf(); and then: "
    : "";
  const drop = `on the server: ${command}SELECT pg_drop_replication_slot('${slot}');`;
  if (present === "none") return `${drop}    # where the server is gone: coppice wal setup ${clusterId} --disable`;
  if (present === "other server") return drop;
  // It may be all that keeps what is not stored.
  return `coppice wal setup ${clusterId} --mode stream --slot ${slot}    # stores what it keeps; where that is not needed, ${drop}`;
}
