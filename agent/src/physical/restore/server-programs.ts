import { access, constants } from "node:fs/promises";
import { join } from "node:path";
import { fail } from "@coppice/proto/kit/failure";
import type { OsUser } from "../../host/os-user.ts";
import { runProgram } from "../../host/run.ts";
import { listToolFolders } from "../../postgres/tools.ts";

const always = ["initdb", "pg_controldata", "pg_ctl", "pg_verifybackup", "postgres"] as const;
const forChains = ["pg_combinebackup"] as const;

/** Programs of a server, besides those that dumps need. */
export type ServerProgram = (typeof always)[number] | (typeof forChains)[number];

/** The server programs of one installed major version. */
export interface ServerPrograms {
  /** As they print it, for example 18.1. */
  readonly version: string;
  readonly folder: string;
}

/** Absolute path of one of them. */
export function serverProgram({ folder }: ServerPrograms, name: ServerProgram): string {
  return join(folder, name);
}

async function missingIn(folder: string, names: readonly string[]): Promise<string[]> {
  const missing: string[] = [];
  for (const name of names) {
    const isThere = await access(join(folder, name), constants.X_OK).then(
      () => true,
      () => false,
    );
    if (!isThere) missing.push(name);
  }
  return missing;
}

/**
 * The server programs of exactly that major version: no other one can start the data directory or combine its backups.
 * Fails with TOOLS_MISSING, which names what is not there.
 */
export async function findServerPrograms(
  major: number,
  { isChain, user, signal }: { isChain: boolean; user: OsUser; signal: AbortSignal },
): Promise<ServerPrograms> {
  const names: readonly string[] = isChain ? [...always, ...forChains] : always;
  let nearest: string[] = [...names];
  // Packages put the major version into the path: those that say it are asked first.
  const isNamed = (folder: string) => folder.split("/").includes(String(major));
  const folders = (await listToolFolders()).toSorted((a, b) => Number(isNamed(b)) - Number(isNamed(a)));
  for (const folder of folders) {
    const missing = await missingIn(folder, names);
    if (missing.length === names.length) continue;
    const version = missing.includes("postgres") ? undefined : await versionOf(join(folder, "postgres"), user, signal);
    if (version !== undefined && Number.parseInt(version, 10) !== major) continue;
    if (missing.length === 0 && version !== undefined) return { version, folder };
    if (missing.length < nearest.length) nearest = missing;
  }
  return fail("TOOLS_MISSING", `${nearest.join(", ")} of PostgreSQL ${major} are not on this host`, {
    hint: `install them with \`apt-get install postgresql-${major}\` on that host`,
  });
}

async function versionOf(file: string, user: OsUser, signal: AbortSignal): Promise<string | undefined> {
  const { stdout } = await runProgram({ file, args: ["--version"], user }, { signal });
  return /^postgres \(PostgreSQL\) (\d+\S*)/m.exec(stdout.toString("utf8"))?.[1];
}
