import { create } from "@bufbuild/protobuf";
import { type RestoreSelection, RestoreSelectionSchema } from "@coppice/proto/gen/coppice/common/v1/restore_selection";
import { fail } from "@coppice/proto/kit/failure";
import { quoteNames } from "../host/look.ts";
import { type ClusterDatabase, listDatabases } from "../logical/databases.ts";
import { openConnection, type PostgresConnection } from "../postgres/connect.ts";
import type { ResolvedEndpoint } from "../postgres/endpoint.ts";
import { quoteLiteral } from "../postgres/quote.ts";
import { type ChosenRelations, chooseRelations, listRelations } from "./choose-relations.ts";
import { describeLacking, describeLargeObjects, refuseLacking } from "./lacking.ts";

/** What is looked for, and where. */
export interface PartToFind {
  /** The scratch server. */
  readonly endpoint: ResolvedEndpoint;
  readonly database: string;
  readonly selection: RestoreSelection | undefined;
  readonly isForPeople: boolean;
  readonly signal: AbortSignal;
}

/** What was found. */
export interface FoundPart {
  readonly database: ClusterDatabase;
  /** Undefined is the whole database. */
  readonly chosen: ChosenRelations | undefined;
  /** What comes back otherwise than it was. */
  readonly warnings: string[];
}

async function findDatabase({ endpoint, database, signal }: PartToFind): Promise<ClusterDatabase> {
  await using connection = await openConnection(endpoint, { signal });
  const databases = (await listDatabases(connection)).filter(({ isHalfDropped }) => !isHalfDropped);
  const found = databases.find(({ name }) => name === database);
  const shown = JSON.stringify(database);
  if (!found) {
    const held = databases.filter(({ properties }) => !properties.isTemplate).map(({ name }) => name);
    return fail("DATABASE_NOT_FOUND", `there was no database ${shown} at that point`, {
      hint: `there were ${quoteNames(held.slice(0, 20))}; name another point or another database`,
    });
  }
  if (!found.allowsConnections)
    fail("DATABASE_NOT_FOUND", `the database ${shown} allowed no connections at that point, and is not dumped`, {
      hint: "name a point when it did; or restore the whole cluster into an empty directory, and ALTER DATABASE … ALLOW_CONNECTIONS true there",
    });
  return found;
}

/** What was prepared and not committed at that point is no part of it, and its locks would keep pg_dump waiting. */
async function rollBackPrepared(connection: PostgresConnection): Promise<string[]> {
  const prepared = await connection.query<{ gid: string }>(
    "select gid from pg_prepared_xacts where database = current_database()",
  );
  for (const { gid } of prepared) await connection.query(`rollback prepared ${quoteLiteral(gid)}`);
  if (prepared.length === 0) return [];
  const what = prepared.length === 1 ? "1 transaction was" : `${prepared.length} transactions were`;
  return [`${what} prepared at that point and not committed: nothing of it is there`];
}

/** What a file has of schemas that were not chosen, because pg_dump takes no single table beside schemas. */
function describeBeside({ tables }: RestoreSelection, { otherSchemas }: ChosenRelations): string[] {
  if (tables.length > 0 || otherSchemas.length === 0) return [];
  const what = `functions, types and sequences of ${quoteNames(otherSchemas)}`;
  return [`${what} are in the file too, because partitions of what was chosen lie there`];
}

/**
 * Finds what is to be dumped of a scratch server, and rolls back there what would lock it. Fails with DATABASE_NOT_FOUND,
 * or with SELECTION_REFUSED for what is not there or would come back without its rows.
 */
export async function findPart(part: PartToFind): Promise<FoundPart> {
  const { endpoint, isForPeople, signal } = part;
  const database = await findDatabase(part);
  await using connection = await openConnection(endpoint, { database: database.name, signal });
  const rolledBack = await rollBackPrepared(connection);
  const selection = part.selection ?? create(RestoreSelectionSchema);
  const relations = await listRelations(connection);
  const isWhole = selection.schemas.length === 0 && selection.tables.length === 0;
  const where = `the database ${JSON.stringify(database.name)}`;
  const chosen = isWhole ? undefined : chooseRelations(relations, selection, where);
  if (chosen) refuseLacking(chosen.chosen, { selection, isForPeople });
  const lacking = await describeLacking(connection, chosen?.chosen ?? relations, selection.contents);
  if (!chosen) return { database, chosen, warnings: [...rolledBack, ...lacking] };
  const objects = await describeLargeObjects(connection, selection.contents);
  const beside = isForPeople ? describeBeside(selection, chosen) : [];
  return { database, chosen, warnings: [...rolledBack, ...lacking, ...objects, ...beside] };
}
