import { Severity } from "@coppice/proto/gen/coppice/control/v1/finding";
import type { Rule } from "./facts.ts";

/** An agent that restarts is away for some seconds; that alone wakes nobody. */
const patienceMs = 60_000;

const units = [
  ["d", 86_400_000],
  ["h", 3_600_000],
  ["min", 60_000],
  ["s", 1000],
] as const;

/** A time as people read it, in one unit as everywhere: `18 s`, `3 min`. */
function inOneUnit(ms: number): string {
  const [unit, factor] = units.find(([, length]) => ms >= length) ?? ["s", 1000];
  return `${Math.floor(ms / factor)} ${unit}`;
}

/** A host whose agent is away, or without one where clusters need it: nothing on it is backed up until it is there. */
export const agentLost: Rule = ({ hosts }, now) =>
  hosts
    .filter(
      ({ state, clusters }) => state === "UNKNOWN" || state === "STOPPED" || (state === "PENDING" && clusters > 0),
    )
    .map(({ id, name, state, stateTime, clusters }) => {
      const awayMs = Math.max(0, now.getTime() - stateTime.getTime());
      const isUrgent = clusters > 0 && state === "UNKNOWN" && awayMs >= patienceMs;
      const away = inOneUnit(awayMs);
      if (state === "PENDING") {
        return {
          rule: "agent-lost",
          subject: id,
          subjectName: name,
          severity: Severity.WARNING,
          since: stateTime,
          message: `no agent is enrolled on ${name}: nothing on it is backed up`,
          fix: `coppice host add ${name}`,
        };
      }
      return {
        rule: "agent-lost",
        subject: id,
        subjectName: name,
        severity: isUrgent ? Severity.CRITICAL : clusters > 0 ? Severity.WARNING : Severity.NOTICE,
        since: stateTime,
        message:
          state === "STOPPED"
            ? `the agent of ${name} was stopped ${away} ago`
            : `the agent of ${name} was lost ${away} ago; nobody knows how the host is`,
        fix: `systemctl restart coppice-agent    # on ${name}`,
      };
    });
