import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import type {
  DeleteHostRequest,
  Enrolment,
  Host,
  HostService,
  UpdateHostRequest,
} from "@coppice/proto/gen/coppice/control/v1/host";
import { fail } from "@coppice/proto/kit/failure";
import { newId } from "@coppice/proto/kit/id";
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
  updateHostLabels,
} from "../catalog/host.ts";
import { revokeHost } from "../fleet/revocation.ts";
import { requireHost } from "../inventory/require.ts";
import { loseHost } from "../operations/ending/lose-host.ts";
import { auditedCall } from "./audited-call.ts";
import { claimCreate } from "./claim-create.ts";
import { hostMessage } from "./convert/host.ts";
import { requireEtag } from "./etag.ts";
import { cutPage, parsePage } from "./page.ts";

/** Makes a host, if there is none of that name, and a token for its agent; `tx` writes the audit too. */
export type Enrol = (
  tx: Database,
  enrolment: { id: string; name: string; labels: Record<string, string> },
) => Promise<Enrolment>;

export function hostService(options: { catalog: Catalog; enrol: Enrol }): ServiceImpl<typeof HostService> {
  const { catalog, enrol } = options;
  return {
    createEnrolment(request, context) {
      return catalog.transaction(async (tx) => {
        const id = newId("enr");
        // Only its hash is kept. A new token instead would end the first one, which may have been pasted already.
        if ((await claimCreate(tx, context, { request, resourceId: id })) !== undefined) {
          fail(
            "TOKEN_SHOWN",
            `the enrolment token of host ${request.hostName} was given in the request's first answer`,
          );
        }
        const enrolment = await enrol(tx, { id, name: request.hostName, labels: request.labels });
        await writeAudit(tx, auditedCall(context, request), { id: enrolment.host, name: request.hostName });
        return enrolment;
      });
    },
    getHost: (request) => describe(catalog.db, request.host),
    async listHosts(request) {
      const page = parsePage(request.page, 1);
      const rows = await listHosts(catalog.db, { after: page.after?.[0], limit: page.size + 1 });
      const { items, nextPageToken } = cutPage(rows, page, (row) => [row.name]);
      return { hosts: await describeAll(catalog.db, items), nextPageToken };
    },
    async updateHost(request, context) {
      const id = await catalog.transaction((tx) => relabel(tx, request, context));
      const [message] = await describeAll(catalog.db, [await requireHost(catalog.db, id)]);
      if (message === undefined) throw new Error("a host has no description");
      return message;
    },
    async deleteHost(request, context) {
      await catalog.transaction((tx) => forget(tx, request, context));
      return {};
    },
    async revokeHost(request, context) {
      const { id } = await catalog.transaction(async (tx) => {
        const row = await lockAsRead(tx, request);
        await revokeHost(tx, row.id, new Date());
        await loseHost(tx, row);
        await writeAudit(tx, auditedCall(context, request), row);
        return row;
      });
      return describe(catalog.db, id);
    },
  };
}

/** As many as the contract lets a host be made with. */
const mostLabels = 64;

async function relabel(tx: Database, request: UpdateHostRequest, context: HandlerContext): Promise<string> {
  const row = await lockHost(tx, request.host);
  if (row === undefined) return fail("HOST_NOT_FOUND", `there is no host ${request.host}`);
  requireEtag(request.etag, row);
  const kept = Object.entries(row.labels).filter(([key]) => !request.removeLabels.includes(key));
  const labels = { ...Object.fromEntries(kept), ...request.labels };
  if (Object.keys(labels).length > mostLabels) {
    fail("INVALID_FIELD", `host ${row.name} would have more than ${mostLabels} labels`, {
      fields: [{ field: "labels", expected: `at most ${mostLabels} with those that are there` }],
    });
  }
  await updateHostLabels(tx, row.id, labels);
  await writeAudit(tx, auditedCall(context, request), row);
  return row.id;
}

async function forget(tx: Database, request: DeleteHostRequest, context: HandlerContext): Promise<void> {
  const row = await lockAsRead(tx, request);
  if (await hasActiveOperations(tx, { hostId: row.id })) {
    fail("HOST_IN_USE", `operations that have not ended run on host ${row.name}`, {
      hint: `wait for them, or cancel them: coppice op list --active; when the host is lost for good: coppice host revoke ${row.name}`,
    });
  }
  await deleteHost(tx, row.id);
  await writeAudit(tx, auditedCall(context, request), row);
}

/** The host, locked, when it is as the caller has read it. */
async function lockAsRead(tx: Database, { host, etag }: { host: string; etag: string }): Promise<HostRow> {
  const row = (await lockHost(tx, host)) ?? fail("HOST_NOT_FOUND", `there is no host ${host}`);
  requireEtag(etag, row);
  return row;
}

async function describe(db: Database, reference: string): Promise<Host> {
  const [message] = await describeAll(db, [await requireHost(db, reference)]);
  if (message === undefined) throw new Error("a host has no description");
  return message;
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
