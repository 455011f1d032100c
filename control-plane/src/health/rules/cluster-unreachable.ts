import { Severity } from "@coppice/proto/gen/coppice/control/v1/finding";
import type { Rule } from "./facts.ts";

/** A cluster that its agent could not reach at the last attempt. */
export const clusterUnreachable: Rule = ({ clusters }) =>
  clusters.flatMap(({ id, name, unreachableSince, problem }) =>
    unreachableSince === null
      ? []
      : {
          rule: "cluster-unreachable",
          subject: id,
          subjectName: name,
          severity: Severity.CRITICAL,
          since: unreachableSince,
          message: `cluster ${name} cannot be reached${problem === "" ? "" : `: ${problem}`}`,
          fix: `coppice cluster check ${name}`,
        },
  );
