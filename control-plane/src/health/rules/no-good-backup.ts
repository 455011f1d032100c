import { Severity } from "@coppice/proto/gen/coppice/control/v1/finding";
import type { Rule } from "./facts.ts";

/** A cluster that was just added gets its first backup soon; after a day somebody has forgotten it. */
const patienceMs = 86_400_000;

/** A cluster without a complete, undamaged backup of its default databases. */
export const noGoodBackup: Rule = ({ clusters }, now) =>
  clusters
    .filter(({ hasGoodBackup }) => !hasGoodBackup)
    .map(({ id, name, createTime }) => ({
      rule: "no-good-backup",
      subject: id,
      subjectName: name,
      severity: now.getTime() - createTime.getTime() < patienceMs ? Severity.WARNING : Severity.CRITICAL,
      since: createTime,
      message: `cluster ${name} has no good backup: none that is complete, of all its databases, and undamaged`,
      fix: `coppice backup create ${name}`,
    }));
