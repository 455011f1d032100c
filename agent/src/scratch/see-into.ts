import { RestoreMode } from "@coppice/proto/gen/coppice/agent/v1/restore_database";
import { DumpContents } from "@coppice/proto/gen/coppice/common/v1/dump_options";
import { fail } from "@coppice/proto/kit/failure";
import { look, type Item, quoteNames } from "../host/look.ts";
import { openConnection } from "../postgres/connect.ts";
import { resolveEndpoint } from "../postgres/endpoint.ts";
import { isNamed, listRelations } from "./choose-relations.ts";
import type { Part } from "./part.ts";

/**
 * Looks whether tables that are to go into a database that is there are there already: it would be refused, after the
 * recovery of a whole cluster. Those of rows alone have to be there.
 */
export async function seeInto({ command, restore: { signal }, targetPassword, files }: Part): Promise<Item[]> {
  const { load, selection } = command;
  const tables = selection?.tables ?? [];
  if (load?.mode !== RestoreMode.INTO || tables.length === 0) return [];
  const see = async () => {
    const endpoint = await resolveEndpoint(load.connection?.endpoint, targetPassword, files);
    await using connection = await openConnection(endpoint, { database: load.targetDatabase, signal });
    const relations = await listRelations(connection);
    const database = quoteNames([load.targetDatabase]);
    const isThere = (table: (typeof tables)[number]) => relations.some((relation) => isNamed(relation, table));
    const shown = (some: typeof tables) =>
      quoteNames(some.map(({ schema, name }) => (schema === "" ? name : `${schema}.${name}`)));
    const [there, missing] = [tables.filter(isThere), tables.filter((table) => !isThere(table))];
    if (selection?.contents === DumpContents.DATA_ONLY) {
      if (missing.length > 0)
        fail("TABLE_MISSING", `the database ${database} has no table for the rows of ${shown(missing)}`);
      return { message: `the database ${database} has the tables` };
    }
    // Without its schema another table may be meant than the one that is there.
    const named = there.filter(({ schema }) => schema !== "");
    if (named.length > 0)
      fail("OBJECT_CLASHES", `the database ${database} has already ${shown(named)}`, {
        hint: "bring it back beside, as a database of its own: --as; or rename what is there",
      });
    const warning = "where that is the one it is refused, after all of the recovery";
    if (there.length > 0) return { message: `the database ${database} has a table ${shown(there)}`, warning };
    return { message: `the database ${database} has none of the tables` };
  };
  return [await look("tables", signal, see)];
}
