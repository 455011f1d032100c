import { Severity } from "@coppice/proto/gen/coppice/control/v1/finding";
import type { Rule } from "./facts.ts";

/** For so long nobody is told who has not taken a full backup at all. */
const patienceMs = 24 * 3_600_000;

/** Archived WAL that no recovery can begin with. */
export const walUnled: Rule = ({ unledArchives }, now) =>
  unledArchives
    .filter(({ isBackedUp, since }) => isBackedUp || now.getTime() - since.getTime() >= patienceMs)
    .map(({ clusterId, clusterName, repositoryName, isBackedUp, since }) => ({
      rule: "wal-without-backup",
      severity: isBackedUp ? Severity.CRITICAL : Severity.WARNING,
      subject: clusterId,
      subjectName: clusterName,
      since,
      message: `no good backup leads into the WAL of cluster ${clusterName} in repository ${repositoryName}: nothing that is archived there can be recovered until a full one is taken into it`,
      fix: `coppice backup create ${clusterName} --kind full --to ${repositoryName}`,
    }));
