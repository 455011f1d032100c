import { Severity } from "@coppice/proto/gen/coppice/control/v1/finding";
import type { Rule } from "./facts.ts";

/** A repository that could not be worked on at the last attempt. */
export const repositoryUnreachable: Rule = ({ repositories }) =>
  repositories.flatMap(({ id, name, unreachableSince, problem }) =>
    unreachableSince === null
      ? []
      : {
          rule: "repository-unreachable",
          subject: id,
          subjectName: name,
          severity: Severity.CRITICAL,
          since: unreachableSince,
          message: `repository ${name} cannot be used${problem === "" ? "" : `: ${problem}`}`,
          fix: `coppice repo check ${name}`,
        },
  );
