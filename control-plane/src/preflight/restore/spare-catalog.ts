import { fail } from "@coppice/proto/kit/failure";
import type { Database } from "../../catalog/catalog.ts";
import { type ClusterRecord, findOwnDatabase } from "../../catalog/cluster.ts";

/**
 * Refuses to replace, or to fill, the database that the catalog itself lies in, where this control plane's server is one
 * that it protects: the operation would be gone in the middle of its work, and fences would be given out once more.
 * Errors: DATABASE_IN_USE.
 */
export async function spareCatalog(db: Database, target: ClusterRecord, databases: readonly string[]): Promise<void> {
  const { name, systemIdentifier } = await findOwnDatabase(db);
  const isSame = target.incarnations.some((one) => one.systemIdentifier === systemIdentifier);
  if (!isSame || !databases.includes(name)) return;
  fail("DATABASE_IN_USE", `the database ${JSON.stringify(name)} of cluster ${target.row.name} holds this catalog`, {
    hint: "restore the other databases one by one, or this one under another name with --as",
  });
}
