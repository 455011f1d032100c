import { chown, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { PostgresServer } from "../postgres-servers.ts";

/** Makes the server go on on a new timeline. */
export async function promote(server: PostgresServer): Promise<void> {
  const file = join(server.dataDir, "standby.signal");
  await server.stop("fast");
  await writeFile(file, "", { mode: 0o600 });
  await chown(file, server.owner.uid, server.owner.gid);
  await server.start();
  await server.sql("postgres", "select pg_promote()");
}
