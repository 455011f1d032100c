import { type RestoreDatabaseCommand, RestoreMode } from "@coppice/proto/gen/coppice/agent/v1/restore_database";
import { type Item, look } from "../../host/look.ts";
import { fail } from "@coppice/proto/kit/failure";
import { openConnection } from "../../postgres/connect.ts";
import { type ClientFiles, formatAddress, resolveEndpoint } from "../../postgres/endpoint.ts";
import { readFacts } from "../../postgres/facts.ts";
import { majorOf, requireRestorable, requireSupported } from "../../postgres/majors.ts";
import { chooseAdminDatabase } from "../plan.ts";
import { seePrivileges } from "./server.ts";
import { seeTarget } from "./target.ts";

/**
 * What can be said of the place of a restore whose dump is not there yet, so that it is not refused only hours later: the
 * server, its version beside that of the dump's server, rights, and the name. Fails where the server is not reached.
 */
export async function lookAtTarget({
  command,
  password,
  files,
  sourceMajor,
  signal,
}: {
  readonly command: RestoreDatabaseCommand;
  readonly password: string | undefined;
  readonly files: ClientFiles;
  readonly sourceMajor: number;
  readonly signal: AbortSignal;
}): Promise<Item[]> {
  const endpoint = await resolveEndpoint(command.connection?.endpoint, password, files);
  const database = await chooseAdminDatabase(endpoint, command.targetDatabase, signal);
  await using connection = await openConnection(endpoint, { database, signal });
  const facts = await readFacts(connection);
  requireSupported(facts.serverVersionNum);
  const major = majorOf(facts.serverVersionNum);
  return [
    { name: "connection", message: `PostgreSQL ${major} answers at ${formatAddress(endpoint)}` },
    await look("version", signal, () => {
      requireRestorable(sourceMajor, major);
      return { message: `what is of PostgreSQL ${sourceMajor} goes into PostgreSQL ${major}` };
    }),
    await look("primary", signal, () => {
      if (facts.inRecovery) fail("CLUSTER_READ_ONLY", `the server at ${formatAddress(endpoint)} is a standby`);
      return { message: "the server is a primary" };
    }),
    ...(command.mode === RestoreMode.INTO ? [] : [await look("privileges", signal, () => seePrivileges(connection))]),
    await look("target", signal, () => seeTarget(connection, command)),
  ];
}
