import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import type { DeleteHostRequest, Enrolment, Host, HostService } from "@coppice/proto/gen/coppice/control/v1/host";
import { fail } from "@coppice/proto/kit/failure";
import { writeAudit } from "../audit/audit.ts";
import { hasActiveOperations } from "../catalog/active-operations.ts";
import type { Catalog, Database } from "../catalog/catalog.ts";
import { listClusterInstances } from "../catalog/cluster.ts";
import {
  certificateExpiries,
  deleteHost,
  type HostRow,
  listFoundClusters,
  listHosts,
  lockHost,
} from "../catalog/host.ts";
import { requireHost } from "../inventory/require.ts";
import { auditedCall } from "./audited-call.ts";
import { hostMessage } from "./convert/host.ts";
import { requireEtag } from "./etag.ts";
import { cutPage, parsePage } from "./page.ts";

/** Makes a host, if there is none of that name, and a token for its agent; `tx` writes the audit too. */
export type Enrol = (tx: Database, host: { name: string; labels: Record<string, string> }) => Promise<Enrolment>;

export function hostService(options: { catalog: Catalog; enrol: Enrol }): ServiceImpl<typeof HostService> {
  const { catalog, enrol } = options;
  return {
    // A repeated request gets a new token: the first one is shown once, and an unused one expires by itself.
    createEnrolment(request, context) {
      return catalog.transaction(async (tx) => {
        const enrolment = await enrol(tx, { name: request.hostName, labels: request.labels });
        await writeAudit(tx, auditedCall(context, request), { id: enrolment.host, name: request.hostName });
        return enrolment;
      });
    },
    async getHost(request) {
      const [message] = await describeAll(catalog.db, [await requireHost(catalog.db, request.host)]);
      if (message === undefined) throw new Error("a host has no description");
      return message;
    },
    async listHosts(request) {
      const page = parsePage(request.page, 1);
      const rows = await listHosts(catalog.db, { after: page.after?.[0], limit: page.size + 1 });
      const { items, nextPageToken } = cutPage(rows, page, (row) => [row.name]);
      return { hosts: await describeAll(catalog.db, items), nextPageToken };
    },
    async deleteHost(request, context) {
      await catalog.transaction((tx) => forget(tx, request, context));
      return {};
    },
  };
}

async function forget(tx: Database, request: DeleteHostRequest, context: HandlerContext): Promise<void> {
  const { host: reference, etag } = request;
  const row = await lockHost(tx, reference);
  if (row === undefined) return fail("HOST_NOT_FOUND", `there is no host ${reference}`);
  requireEtag(etag, row);
  if (await hasActiveOperations(tx, { hostId: row.id })) {
    fail("HOST_IN_USE", `operations that have not ended run on host ${row.name}`, {
      hint: "wait for them, or cancel them: coppice op list --active",
    });
  }
  await deleteHost(tx, row.id);
  await writeAudit(tx, auditedCall(context, request), row);
}

async function describeAll(db: Database, rows: readonly HostRow[]): Promise<Host[]> {
  if (rows.length === 0) return [];
  const ids = rows.map(({ id }) => id);
  const facts = {
    found: await listFoundClusters(db, ids),
    instances: await listClusterInstances(db),
    certificateExpiries: await certificateExpiries(db, ids),
  };
  return rows.map((row) => hostMessage(row, facts));
}
