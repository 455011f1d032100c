import type { ServiceImpl } from "@connectrpc/connect";
import type { AuditService } from "@coppice/proto/gen/coppice/control/v1/audit";
import { listAuditRecords } from "../catalog/audit.ts";
import type { Catalog } from "../catalog/catalog.ts";
import { times } from "./convert/times.ts";
import { cutPage, parsePage } from "./page.ts";

export function auditService({ catalog }: { catalog: Catalog }): ServiceImpl<typeof AuditService> {
  return {
    async listAuditRecords(request) {
      const page = parsePage(request.page, 1);
      const rows = await listAuditRecords(catalog.db, { before: page.after?.[0], limit: page.size + 1 });
      const { items, nextPageToken } = cutPage(rows, page, (row) => [row.id]);
      return {
        records: items.map((row) => ({
          id: row.id,
          principal: row.principal,
          token: row.tokenId ?? "",
          action: row.action,
          subject: row.subject,
          subjectName: row.subjectName,
          requestJson: JSON.stringify(row.request),
          operation: row.operationId ?? "",
          peerAddress: row.peerAddress,
          ...times({ time: row.time }),
        })),
        nextPageToken,
      };
    },
  };
}
