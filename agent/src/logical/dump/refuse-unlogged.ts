import { DumpContents } from "@coppice/proto/gen/coppice/common/v1/dump_options";
import { MissingReason } from "@coppice/proto/gen/coppice/repository/v1/manifest";
import { fail, isFailure } from "@coppice/proto/kit/failure";
import type { PostgresConnection } from "../../postgres/connect.ts";
import type { ClusterDatabase } from "../databases.ts";
import type { ChosenDatabases } from "./choose-databases.ts";
import type { ResolvedDumpOptions } from "./dump-options.ts";
import { listUnlogged } from "./unlogged.ts";

const examples = 3;
const someOf = (all: readonly string[], between: string) =>
  all.slice(0, examples).join(between) + (all.length > examples ? `${between}…` : "");

/**
 * Looks into each database that is to be dumped of a standby, which has no rows of unlogged tables: fails with
 * STANDBY_LACKS_ROWS where the dump would lack some. A database that cannot be looked into is missing from then on.
 */
export async function refuseUnlogged(
  { chosen, missing }: ChosenDatabases<ClusterDatabase>,
  {
    options,
    clusterName,
    connect,
    signal,
  }: {
    readonly options: ResolvedDumpOptions;
    readonly clusterName: string;
    readonly connect: (database: string) => Promise<PostgresConnection>;
    readonly signal: AbortSignal;
  },
): Promise<ChosenDatabases<ClusterDatabase>> {
  if (options.given.contents === DumpContents.SCHEMA_ONLY) return { chosen, missing };
  const seen: ClusterDatabase[] = [];
  const unseen = [...missing];
  const lacking: string[] = [];
  for (const database of chosen) {
    const { name } = database;
    try {
      await using connection = await connect(name);
      const unlogged = await listUnlogged(connection, options.given);
      if (unlogged.length > 0) lacking.push(`${someOf(unlogged, ", ")} in the database ${JSON.stringify(name)}`);
      seen.push(database);
    } catch (error) {
      signal.throwIfAborted();
      if (!isFailure(error)) throw error;
      unseen.push({ name, reason: MissingReason.FAILED, message: error.message });
    }
  }
  if (lacking.length > 0)
    fail(
      "STANDBY_LACKS_ROWS",
      `a standby has nothing of what unlogged tables and sequences hold, and the dump would lack it: ${someOf(lacking, "; ")}`,
      {
        hint: `dump the primary: \`coppice backup create ${clusterName} --kind dump --instance primary\`; or leave it out by name, with --exclude-table-data`,
      },
    );
  return { chosen: seen, missing: unseen };
}
