import { agentLost } from "./agent-lost.ts";
import { backupDamaged } from "./backup-damaged.ts";
import { clusterUnreachable, noServer } from "./cluster-unreachable.ts";
import type { Finding, HealthFacts, Rule } from "./facts.ts";
import { noGoodBackup } from "./no-good-backup.ts";
import { operationStalled } from "./operation-stalled.ts";
import { repositoryUnreachable } from "./repository-unreachable.ts";
import { restoreUndecided } from "./restore-undecided.ts";
import { twoPrimaries } from "./two-primaries.ts";
import { walAtRisk } from "./wal-at-risk.ts";
import { walDamaged } from "./wal-damaged.ts";
import { walLeftover } from "./wal-leftover.ts";
import { walStray } from "./wal-stray.ts";
import { walUnled } from "./wal-unled.ts";

const rules: readonly Rule[] = [
  agentLost,
  backupDamaged,
  clusterUnreachable,
  noGoodBackup,
  operationStalled,
  noServer,
  repositoryUnreachable,
  restoreUndecided,
  twoPrimaries,
  walAtRisk,
  walDamaged,
  walLeftover,
  walStray,
  walUnled,
];

/** Everything that is wrong now by any rule, worst first, then oldest. */
export function findWhatIsWrong(facts: HealthFacts, now: Date): Finding[] {
  return rules
    .flatMap((rule) => rule(facts, now))
    .sort(
      (a, b) =>
        b.severity - a.severity ||
        a.since.getTime() - b.since.getTime() ||
        (`${a.rule} ${a.subject}` < `${b.rule} ${b.subject}` ? -1 : 1),
    );
}
