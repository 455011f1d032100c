import { Severity } from "@coppice/proto/gen/coppice/control/v1/finding";
import { formatSize } from "@coppice/proto/kit/size";
import { formatLsn } from "@coppice/proto/kit/wal/lsn";
import type { Finding, Rule, WalArchiveFact } from "./facts.ts";

/** An agent that is there acknowledges within seconds, unless a segment is on its way. */
const patienceMs = 60_000;

/** WAL that is not archived, or may be lost soon, or is lost without a backup behind it. */
export const walAtRisk: Rule = ({ walArchives }, now) =>
  walArchives.flatMap((archive) => {
    const about = { subject: archive.id, subjectName: archive.name };
    return [notArchived, ownerAwaited, silent, behind, slotAtRisk, gap].flatMap((rule) => {
      const found = rule(archive, now);
      return found === undefined ? [] : { ...about, ...found };
    });
  });

type Found = Omit<Finding, "subject" | "subjectName"> | undefined;

function notArchived({ name, trouble }: WalArchiveFact): Found {
  if (trouble === null) return undefined;
  return {
    rule: "wal-not-archived",
    severity: Severity.CRITICAL,
    since: trouble.since,
    message: `WAL of cluster ${name} is not archived: ${trouble.message}`,
    fix: `coppice wal status ${name}`,
  };
}

/** Nothing is archived until the owner has acknowledged. */
function ownerAwaited({ name, awaited }: WalArchiveFact, now: Date): Found {
  if (awaited === null) return undefined;
  const { hostName, isConnected, since } = awaited;
  if (isConnected && now.getTime() - since.getTime() < patienceMs) return undefined;
  const agent = `the agent of ${hostName}${isConnected ? "" : ", which is away,"}`;
  return {
    rule: "wal-owner-awaited",
    severity: Severity.CRITICAL,
    since,
    message: `WAL of cluster ${name} is not archived: ${agent} has not acknowledged that it has stopped`,
    fix: `systemctl restart coppice-agent    # on ${hostName}; if that host is dead: coppice wal setup ${name} --owner-dead ${hostName}`,
  };
}

/** An archive tells something every ten seconds. */
const silentMs = 120_000;

/** An agent that is there, and says nothing of it: whatever it told last, nobody knows whether WAL is archived. */
function silent({ name, reportTime, awaited, present }: WalArchiveFact, now: Date): Found {
  if (present === null || awaited !== null) return undefined;
  const since = reportTime !== null && reportTime > present.since ? reportTime : present.since;
  if (now.getTime() - since.getTime() < silentMs) return undefined;
  return {
    rule: "wal-silent",
    severity: Severity.CRITICAL,
    since,
    message: `the agent of ${present.hostName} is connected and says nothing of WAL of cluster ${name}: it may not be archived`,
    fix: `journalctl -u coppice-agent    # on ${present.hostName}; then: systemctl restart coppice-agent`,
  };
}

const behindMs = 300_000;

/** Whatever the agent thinks of itself. */
function behind({ name, behind: late, trouble }: WalArchiveFact): Found {
  if (late === null || trouble !== null) return undefined;
  const { bytes, ageMs, maxAgeMs, since, isMoving } = late;
  if (ageMs < Math.max(behindMs, 10 * maxAgeMs)) return undefined;
  return {
    rule: "wal-behind",
    severity: isMoving ? Severity.WARNING : Severity.CRITICAL,
    since,
    message: `${formatSize(bytes)} of WAL of cluster ${name} are not archived${isMoving ? " yet" : ", and nothing of it is stored now"}`,
    fix: `coppice wal status ${name}`,
  };
}

/** What PostgreSQL calls a slot that keeps more than max_wal_size, and one that is about to lose what it keeps. */
const lossOf: Readonly<Record<string, string>> = {
  extended: "keeps more WAL on the server than max_wal_size",
  unreserved: "loses WAL that is not archived at the next checkpoint",
  lost: "was given up by the server, and WAL that is not archived is gone",
};

function slotAtRisk({ name, slotStatus, reportTime }: WalArchiveFact): Found {
  const what = lossOf[slotStatus];
  if (what === undefined || reportTime === null) return undefined;
  return {
    rule: "wal-slot-at-risk",
    severity: slotStatus === "extended" ? Severity.WARNING : Severity.CRITICAL,
    since: reportTime,
    message: `the slot of cluster ${name} ${what}`,
    fix: `coppice wal status ${name}`,
  };
}

function gap({ name, gap: missing }: WalArchiveFact): Found {
  if (missing === null) return undefined;
  const where = `from ${formatLsn(missing.startLsn)} to ${formatLsn(missing.endLsn)}`;
  return {
    rule: "wal-gap",
    severity: Severity.CRITICAL,
    since: missing.since,
    message: `WAL of cluster ${name} ${where} is not archived, or lost, and nothing after it can be recovered without a new backup`,
    fix: `coppice backup create ${name} --kind full`,
  };
}
