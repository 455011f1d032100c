import { Severity } from "@coppice/proto/gen/coppice/control/v1/finding";
import type { Rule } from "./facts.ts";

/** Whoever has restored a database beside another one wants to look at it first; after a day it is forgotten. */
export const undecidedMs = 86_400_000;

/** A database that a restore has left beside the one whose place it may take: it holds room, and nobody decides. */
export const restoreUndecided: Rule = ({ heldDatabases }) =>
  heldDatabases.map(({ operationId, clusterId, clusterName, name, target, since }) => ({
    rule: "restore-undecided",
    subject: clusterId,
    subjectName: clusterName,
    severity: Severity.NOTICE,
    since,
    message: `in cluster ${clusterName} the restored database ${name} waits beside ${target}, and takes its room, until somebody decides`,
    fix: `coppice restore swap ${operationId}    # or, when it is not wanted: coppice restore drop ${operationId}`,
  }));
