import type { KeyObject } from "node:crypto";
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import type {
  CreateRepositoryRequest,
  DeleteRepositoryRequest,
  Repository,
  RepositoryService,
  UpdateRepositoryRequest,
} from "@coppice/proto/gen/coppice/control/v1/repository";
import { fail } from "@coppice/proto/kit/failure";
import { newId } from "@coppice/proto/kit/id";
import { writeAudit } from "../audit/audit.ts";
import type { Catalog, Database } from "../catalog/catalog.ts";
import { hostNames } from "../catalog/host.ts";
import { hasActiveOperations } from "../catalog/active-operations.ts";
import {
  deleteRepository,
  listRepositories,
  lockRepository,
  repositoryContents,
  type RepositoryRow,
} from "../catalog/repository.ts";
import { changeRepository } from "../inventory/change-repository.ts";
import { registerRepository } from "../inventory/register-repository.ts";
import { requireRepository } from "../inventory/require.ts";
import { prepareRepositoryCheck } from "../preflight/check.ts";
import { prepareCleaning } from "../preflight/cleaning.ts";
import { prepareRebuild } from "../preflight/rebuild.ts";
import { makeChallenge } from "../secrets/recovery-challenge.ts";
import { auditedCall } from "./audited-call.ts";
import { claimCreate } from "./claim-create.ts";
import { repositoryMessage } from "./convert/repository.ts";
import { requireEtag } from "./etag.ts";
import { cutPage, parsePage } from "./page.ts";
import type { Start } from "./start.ts";

export function repositoryService(options: {
  catalog: Catalog;
  start: Start;
  masterKey: KeyObject;
}): ServiceImpl<typeof RepositoryService> {
  const { catalog, start, masterKey } = options;
  return {
    async createRepository(request, context) {
      const id = await catalog.transaction((tx) => register(tx, masterKey, request, context));
      return describe(catalog.db, await requireRepository(catalog.db, id));
    },
    async getRepository(request) {
      return describe(catalog.db, await requireRepository(catalog.db, request.repository));
    },
    async listRepositories(request) {
      const page = parsePage(request.page, 1);
      const rows = await listRepositories(catalog.db, { after: page.after?.[0], limit: page.size + 1 });
      const { items, nextPageToken } = cutPage(rows, page, (row) => [row.name]);
      return { repositories: await describeAll(catalog.db, items), nextPageToken };
    },
    createRecoveryChallenge: (request) => makeChallenge(masterKey, request.recoveryRecipient, new Date()),
    async updateRepository(request, context) {
      const id = await catalog.transaction((tx) => change(tx, masterKey, request, context));
      return describe(catalog.db, await requireRepository(catalog.db, id));
    },
    cleanRepository: (request, context) => start(request, context, (tx) => prepareCleaning(tx, request, new Date())),
    rebuildRepository: (request, context) => start(request, context, (tx) => prepareRebuild(tx, request)),
    checkRepository: (request, context) => start(request, context, (tx) => prepareRepositoryCheck(tx, request)),
    async deleteRepository(request, context) {
      await catalog.transaction((tx) => forget(tx, request, context));
      return {};
    },
  };
}

async function register(
  tx: Database,
  masterKey: KeyObject,
  request: CreateRepositoryRequest,
  context: HandlerContext,
): Promise<string> {
  const id = newId("rep");
  const earlier = await claimCreate(tx, context, { request, resourceId: id });
  if (earlier !== undefined) return earlier;
  await registerRepository(tx, { id, request, masterKey, now: new Date() });
  await writeAudit(tx, auditedCall(context, request), { id, name: request.name });
  return id;
}

async function change(
  tx: Database,
  masterKey: KeyObject,
  request: UpdateRepositoryRequest,
  context: HandlerContext,
): Promise<string> {
  const row = await lockRepository(tx, request.repository);
  if (row === undefined) return fail("REPOSITORY_NOT_FOUND", `there is no repository ${request.repository}`);
  const earlier = await claimCreate(tx, context, { request, resourceId: row.id });
  if (earlier !== undefined) return earlier;
  requireEtag(request.etag, row);
  await changeRepository(tx, masterKey, row, request);
  await writeAudit(tx, auditedCall(context, request), { id: row.id, name: row.name });
  return row.id;
}

async function forget(tx: Database, request: DeleteRepositoryRequest, context: HandlerContext): Promise<void> {
  const { repository: reference, etag } = request;
  const row = await lockRepository(tx, reference);
  if (row === undefined) return fail("REPOSITORY_NOT_FOUND", `there is no repository ${reference}`);
  requireEtag(etag, row);
  if (await hasActiveOperations(tx, { repositoryId: row.id })) {
    fail("REPOSITORY_IN_USE", `operations that have not ended use repository ${row.name}`);
  }
  await deleteRepository(tx, row);
  await writeAudit(tx, auditedCall(context, request), { id: row.id, name: row.name });
}

async function describe(db: Database, row: RepositoryRow): Promise<Repository> {
  const [message] = await describeAll(db, [row]);
  if (message === undefined) throw new Error("a repository has no description");
  return message;
}

async function describeAll(db: Database, rows: readonly RepositoryRow[]): Promise<Repository[]> {
  const facts = {
    hostNames: await hostNames(
      db,
      rows.flatMap(({ homeHostId }) => homeHostId ?? []),
    ),
    contents: await repositoryContents(
      db,
      rows.map(({ id }) => id),
    ),
  };
  return rows.map((row) => repositoryMessage(row, facts));
}
