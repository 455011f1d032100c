import type { ServiceImpl } from "@connectrpc/connect";
import type { FindingService } from "@coppice/proto/gen/coppice/control/v1/finding";
import type { Catalog } from "../catalog/catalog.ts";
import { readHealthFacts } from "../health/read-facts.ts";
import { findWhatIsWrong } from "../health/rules/rules.ts";
import { times } from "./convert/times.ts";

export function findingService({ catalog }: { catalog: Catalog }): ServiceImpl<typeof FindingService> {
  return {
    async listFindings() {
      const now = new Date();
      const findings = findWhatIsWrong(await readHealthFacts(catalog.db, now), now);
      return {
        findings: findings.map(({ rule, subject, subjectName, severity, since, message, fix }) => ({
          id: `${rule}/${subject}`,
          rule,
          subject,
          subjectName,
          severity,
          message,
          fix,
          ...times({ sinceTime: since }),
        })),
      };
    },
  };
}
