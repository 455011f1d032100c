import { openChain } from "../../host/chain.ts";
import type { ToolAccess } from "../../postgres/tool-access.ts";
import { type ArchiveContents, readContents } from "./contents.ts";

/** The table of contents that a dump of a database's definitions would have now. Fails with PROGRAM_FAILED. */
export async function readDatabaseContents(
  access: ToolAccess,
  database: string,
  signal: AbortSignal,
): Promise<ArchiveContents> {
  const dump = access.connecting("pg_dump", database, ["--format=custom", "--compress=0", "--schema-only"]);
  await using chain = await openChain([dump], { signal });
  const contents = await readContents(chain.output);
  chain.output.resume();
  await chain.done;
  return contents;
}
