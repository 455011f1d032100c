import { Severity } from "@coppice/proto/gen/coppice/control/v1/finding";
import type { Rule } from "./facts.ts";

/** Several servers of one cluster that accept writes: an old primary beside a promoted standby, or a copy taken for one. */
export const twoPrimaries: Rule = ({ clusters }, now) =>
  clusters.flatMap(({ id, name, servers }) => {
    const primaries = servers.filter((one) => one.isPrimary && one.unreachableSince === null);
    if (primaries.length < 2) return [];
    const other = primaries.find(({ isMain }) => !isMain);
    const hosts = primaries.map(({ hostName }) => hostName).join(" and ");
    const main = primaries.find(({ isMain }) => isMain)?.hostName ?? "";
    return {
      rule: "two-primaries",
      subject: id,
      subjectName: name,
      severity: Severity.CRITICAL,
      since: new Date(Math.max(...primaries.map(({ seenTime }) => (seenTime ?? now).getTime()))),
      message: `several servers of cluster ${name} accept writes, by the agents of ${hosts}: backups are taken of that of ${main}`,
      fix: `look again: coppice cluster check ${name}; then stop the one that was left behind, or forget it: coppice cluster remove-instance ${name} ${other?.id ?? "SERVER"}`,
    };
  });
