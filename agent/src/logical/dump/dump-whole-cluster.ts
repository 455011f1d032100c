import type { StoredStream } from "@coppice/proto/gen/coppice/repository/v1/stored_object";
import { storeLimited } from "./dump-databases.ts";
import { pgDumpallArguments } from "./dump-options.ts";
import type { PreparedDump } from "./prepare-dump.ts";

/** Stores all that is in the cluster as one SQL script by pg_dumpall. Fails as storeDump. */
export async function dumpWholeCluster(
  prepared: PreparedDump,
  onWritten: (bytes: number) => void,
): Promise<StoredStream> {
  const { access, chosen, endpoint, options, request } = prepared;
  const applicationName = `coppice ${prepared.address.backupId} all`;
  const leftOut = chosen.missing.map(({ name }) => name);
  const args = [...pgDumpallArguments(options, leftOut), `--database=${endpoint.maintenanceDatabase}`];
  if (!prepared.hasRolePasswords) args.push("--no-role-passwords");
  const program = access.connecting("pg_dumpall", endpoint.maintenanceDatabase, args, applicationName);
  return storeLimited(prepared, { program, name: "cluster.sql", signal: request.signal, onWritten }, applicationName);
}
