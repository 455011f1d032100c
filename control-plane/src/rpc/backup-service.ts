import type { ServiceImpl } from "@connectrpc/connect";
import type { Backup, BackupService } from "@coppice/proto/gen/coppice/control/v1/backup";
import { type BackupRecord, listBackups } from "../catalog/backup.ts";
import type { Catalog, Database } from "../catalog/catalog.ts";
import { clusterNames } from "../catalog/cluster.ts";
import { listBrokenChains } from "../catalog/physical/broken-chain.ts";
import { repositoryNames } from "../catalog/repository.ts";
import { requireBackup, requireCluster, requireRepository } from "../inventory/require.ts";
import { prepareBackup } from "../preflight/backup.ts";
import { prepareDeletion } from "../preflight/deletion.ts";
import { prepareVerification } from "../preflight/verify.ts";
import { backupMessage } from "./convert/backup.ts";
import { requireEtag } from "./etag.ts";
import { cutPage, parsePage } from "./page.ts";
import type { Start } from "./start.ts";

export function backupService(options: { catalog: Catalog; start: Start }): ServiceImpl<typeof BackupService> {
  const { db } = options.catalog;
  const { start } = options;
  return {
    createBackup: (request, context) => start(request, context, (tx) => prepareBackup(tx, request, new Date())),
    async getBackup(request) {
      const [message] = await describeAll(db, [await requireBackup(db, request.backup)]);
      if (message === undefined) throw new Error("a backup has no description");
      return message;
    },
    async listBackups(request) {
      const page = parsePage(request.page, 1);
      const records = await listBackups(db, {
        before: page.after?.[0],
        limit: page.size + 1,
        clusterId: request.cluster === "" ? undefined : (await requireCluster(db, request.cluster)).row.id,
        repositoryId: request.repository === "" ? undefined : (await requireRepository(db, request.repository)).id,
      });
      const { items, nextPageToken } = cutPage(records, page, ({ row }) => [row.id]);
      return { backups: await describeAll(db, items), nextPageToken };
    },
    verifyBackup: (request, context) => start(request, context, (tx) => prepareVerification(tx, request)),
    deleteBackup: (request, context) =>
      start(request, context, async (tx) => {
        const { row } = await requireBackup(tx, request.backup);
        requireEtag(request.etag, { name: row.id, version: row.version });
        return prepareDeletion(tx, request);
      }),
    async getRecipe(request) {
      const { row } = await requireBackup(db, request.backup);
      return { backup: row.id, text: row.recipe };
    },
  };
}

async function describeAll(db: Database, records: readonly BackupRecord[]): Promise<Backup[]> {
  const facts = {
    clusterNames: await clusterNames(
      db,
      records.map(({ row }) => row.clusterId),
    ),
    repositoryNames: await repositoryNames(
      db,
      records.flatMap(({ copies }) => copies.map(({ repositoryId }) => repositoryId)),
    ),
    brokenChains: await listBrokenChains(
      db,
      records.map(({ row }) => row),
    ),
  };
  return records.map((record) => backupMessage(record, facts));
}
