import { join } from "node:path";
import type { OsUser } from "../../host/os-user.ts";
import { readIfThere, writeOwned } from "./settings/configuration.ts";

const mapName = "coppice_restore";

function isOwnLine(line: string): boolean {
  return line.startsWith(`${mapName} `) || (line.startsWith("local ") && line.endsWith(` map=${mapName}`));
}

/**
 * Takes out the lines by which the agent let itself in while a server recovered, all others left as they are now. Says
 * whether there were any.
 */
export async function closeAccess(data: string, user: OsUser): Promise<boolean> {
  let found = false;
  for (const name of ["pg_hba.conf", "pg_ident.conf"]) {
    const file = join(data, name);
    const lines = ((await readIfThere(file)) ?? "").split("\n");
    const others = lines.filter((line) => !isOwnLine(line));
    if (others.length === lines.length) continue;
    found = true;
    await writeOwned(file, others.join("\n"), user);
  }
  return found;
}
