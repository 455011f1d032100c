import { RestoreMode } from "@coppice/proto/gen/coppice/agent/v1/restore_database";
import { type Item, quoteNames } from "../host/look.ts";
import { isFailure } from "@coppice/proto/kit/failure";
import { findDatabase } from "../logical/staged-database.ts";
import { openConnection } from "../postgres/connect.ts";
import { type ResolvedEndpoint, resolveEndpoint } from "../postgres/endpoint.ts";
import { isNamed, listRelations } from "./choose-relations.ts";
import { findLack } from "./lacking.ts";
import type { Part } from "./part.ts";

/** It may have been dropped since, which is why it is wanted. */
const unknown = (what: string): Item => ({
  name: "wanted",
  message: what,
  warning: "it has to have been there at that point, spelled like this",
});

/** What the live database has not, or has in a way that would be refused behind the recovery. */
async function compareWanted({ command, restore }: Part, endpoint: ResolvedEndpoint): Promise<Item[]> {
  const { database, selection, file } = command;
  if (!selection || selection.tables.length + selection.schemas.length === 0) return [];
  await using connection = await openConnection(endpoint, { database, signal: restore.signal });
  const relations = await listRelations(connection);
  const where = `the live database ${quoteNames([database])}`;
  const tables = selection.tables.flatMap((table): Item[] => {
    const shown = quoteNames([table.schema === "" ? table.name : `${table.schema}.${table.name}`]);
    const found = relations.filter((relation) => isNamed(relation, table));
    if (found.length === 0) return [unknown(`${where} has no table ${shown}`)];
    const lack = found[0] && findLack(found[0], { selection, isForPeople: file !== undefined });
    if (!lack) return [];
    const warning = `where it was so at that point it is refused, after all of the recovery: ${lack.hint}`;
    return [{ name: "wanted", message: `${shown} of ${where} ${lack.is}`, warning }];
  });
  const schemas = selection.schemas
    .filter((schema) => !relations.some((relation) => relation.schema === schema))
    .map((schema) => unknown(`${where} has no schema ${quoteNames([schema])} with anything in it`));
  return [...tables, ...schemas];
}

async function lookAtLive(part: Part, isKnown: boolean): Promise<Item[]> {
  const { command, restore, livePassword, files } = part;
  const { live, liveDatabase, database, load } = command;
  const nobodyKnows = unknown(`neither the catalog nor the live server knows a database ${quoteNames([database])}`);
  if (!live) return isKnown ? [] : [nobodyKnows];
  const endpoint = await resolveEndpoint(live.endpoint, livePassword, files);
  await using connection = await openConnection(endpoint, { signal: restore.signal });
  if ((await findDatabase(connection, database)) === undefined) return isKnown ? [] : [nobodyKnows];
  // Into the present database goes what is not there, and another one says nothing of this one's tables.
  if (load?.mode === RestoreMode.INTO || liveDatabase !== database) return [];
  return await compareWanted(part, endpoint);
}

/**
 * Looks whether what is wanted is known, because a name that is misspelled costs the recovery of a whole cluster: what is
 * not is a warning, and nothing is said where nobody can be asked. `isKnown`: the catalog has seen the database.
 */
export async function seeWanted(part: Part, isKnown: boolean): Promise<Item[]> {
  try {
    return await lookAtLive(part, isKnown);
  } catch (error) {
    part.restore.signal.throwIfAborted();
    if (!isFailure(error)) throw error;
    const what = `the catalog knows no database ${quoteNames([part.command.database])}, and the live server cannot be asked`;
    return isKnown ? [] : [unknown(what)];
  }
}
