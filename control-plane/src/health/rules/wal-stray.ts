import { Severity } from "@coppice/proto/gen/coppice/control/v1/finding";
import type { Rule, StrayArchiveFact } from "./facts.ts";

/** WAL that an agent goes on archiving, after the catalog was restored or made anew: nobody watches it. */
export const walStray: Rule = ({ strayArchives }) =>
  strayArchives.map((stray) => ({
    rule: "wal-stray",
    subject: stray.clusterId,
    subjectName: stray.clusterName || stray.clusterId,
    severity: Severity.WARNING,
    since: stray.since,
    message: `the agent of ${stray.hostName} archives WAL of cluster ${stray.clusterName || stray.clusterId}, ${whyStray[stray.known]}`,
    fix: fixOf(stray),
  }));

const whyStray = {
  no: "which the catalog does not know: enter its repository and its server anew, or end it",
  cluster: "which the catalog does not say: go on with it, or end it",
  archived: "which is to be archived by the agent of another host",
};

function fixOf({ clusterId, clusterName, known }: StrayArchiveFact): string {
  if (known === "no") return `coppice repository rebuild REPOSITORY    # or: coppice wal setup ${clusterId} --disable`;
  return `coppice wal ${known === "cluster" ? "setup" : "status"} ${clusterName || clusterId}`;
}
