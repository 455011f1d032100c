import { fail } from "../failure.ts";
import { formatLsn, parseLsn } from "../wal/lsn.ts";

/** A timeline and what it grew out of. */
export interface TimelineHistory {
  readonly timeline: number;
  /** From the oldest on; empty for a timeline that began with the cluster. */
  readonly ancestors: readonly Ancestor[];
}

/** A timeline that another one grew out of. */
export interface Ancestor {
  readonly timeline: number;
  /** First position that is not of this timeline any more. */
  readonly endLsn: bigint;
  /** What PostgreSQL says of why, for people. */
  readonly reason: string;
}

const newest = 0xffff_ffff;

/**
 * Reads a timeline's history file as PostgreSQL does: one ancestor a line, whose timelines grow; blank lines and those
 * that begin with # count for nothing. Fails with TIMELINE_HISTORY_INVALID, naming the line.
 */
export function parseTimelineHistory(timeline: number, content: string): TimelineHistory {
  const ancestors: Ancestor[] = [];
  for (const [index, line] of content.split("\n").entries()) {
    if (/^\s*(?:#|$)/.test(line)) continue;
    const refuse = (problem: string): never =>
      fail("TIMELINE_HISTORY_INVALID", `history of timeline ${timeline}, line ${index + 1}: ${problem}`);
    const fields = /^\s*(\d{1,10})\s+([0-9A-Fa-f]{1,8}\/[0-9A-Fa-f]{1,8})(?:\s+(\S.*?))?\s*$/.exec(line);
    const [, number = "", lsn = "", reason = ""] = fields ?? refuse("it is not a timeline and a WAL position");
    const ancestor = Number(number);
    if (ancestor < 1 || ancestor > newest) refuse(`${number} is not a timeline`);
    if (ancestor <= (ancestors.at(-1)?.timeline ?? 0)) refuse(`timeline ${ancestor} does not follow the one before it`);
    if (ancestor >= timeline) refuse(`timeline ${ancestor} is not older than ${timeline}`);
    ancestors.push({ timeline: ancestor, endLsn: parseLsn(lsn), reason });
  }
  return { timeline, ancestors };
}

/** The file that PostgreSQL would write. */
export function formatTimelineHistory({ ancestors }: TimelineHistory): string {
  return ancestors.map(({ timeline, endLsn, reason }) => `${timeline}\t${formatLsn(endLsn)}\t${reason}\n`).join("\n");
}
