import { Severity } from "@coppice/proto/gen/coppice/control/v1/finding";
import type { Rule } from "./facts.ts";

/** A server of a cluster that its agent could not reach at the last attempt: urgent where it is the primary. */
export const clusterUnreachable: Rule = ({ clusters }) =>
  clusters.flatMap(({ id, name, servers }) =>
    servers.flatMap(({ id: server, hostName, isMain, unreachableSince, problem }) => {
      if (unreachableSince === null) return [];
      const only = servers.length === 1;
      const why = problem === "" ? "" : `: ${problem}`;
      return {
        rule: isMain ? "cluster-unreachable" : "instance-unreachable",
        subject: isMain ? id : server,
        subjectName: name,
        severity: isMain ? Severity.CRITICAL : Severity.WARNING,
        since: unreachableSince,
        message: only
          ? `cluster ${name} cannot be reached${why}`
          : `the server of cluster ${name} by the agent of ${hostName} cannot be reached${why}`,
        fix: `coppice cluster check ${name}${only ? "" : ` --instance ${server}`}`,
      };
    }),
  );

/** A cluster that is known from its backups alone, after a rebuild for one: nobody takes new ones. */
export const noServer: Rule = ({ clusters }) =>
  clusters
    .filter(({ servers }) => servers.length === 0)
    .map(({ id, name, createTime }) => ({
      rule: "no-server",
      subject: id,
      subjectName: name,
      severity: Severity.WARNING,
      since: createTime,
      message: `cluster ${name} is known from its backups only, without a server: nobody backs it up`,
      fix: `coppice cluster add ${name} --host HOST`,
    }));
