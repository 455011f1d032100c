import type { StoredStream } from "@coppice/proto/gen/coppice/repository/v1/stored_object";
import { storeDump } from "./dump-stream.ts";
import type { PreparedDump } from "./prepare-dump.ts";

/** Stores roles, tablespaces and their settings, as pg_dumpall writes them. Fails as storeDump. */
export async function dumpGlobals(prepared: PreparedDump, onWritten: (bytes: number) => void): Promise<StoredStream> {
  const { access, endpoint, encoding, prefix, request } = prepared;
  const args = ["--globals-only", `--database=${endpoint.maintenanceDatabase}`];
  // Else they are in the database's own encoding, which not everybody who applies them can read.
  if (prepared.hasEncoding) args.push("--encoding=UTF8");
  if (!prepared.hasRolePasswords) args.push("--no-role-passwords");
  return storeDump(request.storage, {
    program: access.connecting("pg_dumpall", endpoint.maintenanceDatabase, args),
    prefix,
    name: "globals.sql",
    encoding,
    signal: request.signal,
    onWritten,
    log: request.log,
  });
}
