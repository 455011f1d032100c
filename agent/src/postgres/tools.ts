import { readdir, realpath, stat } from "node:fs/promises";
import { basename, join } from "node:path";
import { fail, isFailure } from "@coppice/proto/kit/failure";
import { runProgram } from "../host/run.ts";
import { chooseToolMajor } from "./majors.ts";

/** PostgreSQL's own programs that Coppice runs. */
const toolNames = ["pg_dump", "pg_dumpall", "pg_restore", "psql"] as const;
export type ToolName = (typeof toolNames)[number];

/** The tools of one installed major version. */
export interface Tools {
  readonly major: number;
  /** As the programs print it, for example 18.1 (Debian 18.1-1). */
  readonly version: string;
  readonly folder: string;
}

/** Absolute path of one of the tools. */
export function toolPath(tools: Tools, name: ToolName): string {
  return join(tools.folder, name);
}

async function listFolder(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return [];
    throw error;
  }
}

/** Folders of this host that may hold the tools: Debian's, those of the RPMs, then those of PATH. */
export async function listToolFolders(path = process.env.PATH ?? ""): Promise<string[]> {
  const debian = (await listFolder("/usr/lib/postgresql")).map((major) => `/usr/lib/postgresql/${major}/bin`);
  const rpm = (await listFolder("/usr")).filter((name) => name.startsWith("pgsql-")).map((name) => `/usr/${name}/bin`);
  return [...debian, ...rpm, ...path.split(":").filter((folder) => folder.startsWith("/"))];
}

async function holdsTools(folder: string): Promise<boolean> {
  for (const name of toolNames) {
    const file = await realpath(join(folder, name)).catch(() => undefined);
    // Debian's wrapper in /usr/bin chooses a version by itself.
    if (file === undefined || basename(file) === "pg_wrapper" || !(await stat(file)).isFile()) return false;
  }
  return true;
}

async function readTools(folder: string, signal: AbortSignal): Promise<Tools | undefined> {
  if (!(await holdsTools(folder))) return undefined;
  const { stdout } = await runProgram({ file: join(folder, "pg_dump"), args: ["--version"] }, { signal });
  const version = /^pg_dump \(PostgreSQL\) ((\d+).*)$/m.exec(stdout.toString("utf8"));
  if (!version?.[1] || !version[2]) return undefined;
  return { major: Number(version[2]), version: version[1].trim(), folder };
}

/**
 * Finds pg_dump, pg_dumpall, pg_restore and psql of the server's major version, else of the next newer one.
 * Fails with TOOLS_MISSING or TOOLS_TOO_OLD.
 */
export async function findTools(
  wantedMajor: number,
  { signal, folders }: { signal: AbortSignal; folders?: readonly string[] },
): Promise<Tools> {
  const hint = `install them with \`apt-get install postgresql-client-${wantedMajor}\` on that host`;
  const looked = (folders ?? (await listToolFolders())).map((folder) =>
    readTools(folder, signal).catch((error: unknown) => {
      // A program that does not even print its version is as good as none.
      if (isFailure(error, "PROGRAM_FAILED")) return undefined;
      throw error;
    }),
  );
  const installed = (await Promise.all(looked)).flatMap((tools) => tools ?? []);
  const major = chooseToolMajor(
    installed.map((tools) => tools.major),
    wantedMajor,
  );
  const found = installed.find((tools) => tools.major === major);
  if (found) return found;
  const newest = Math.max(...installed.map((tools) => tools.major));
  if (installed.length === 0)
    return fail("TOOLS_MISSING", `${toolNames.join(", ")} of PostgreSQL ${wantedMajor} are not on this host`, { hint });
  return fail("TOOLS_TOO_OLD", `the newest tools here are of PostgreSQL ${newest}, and ${wantedMajor} is needed`, {
    hint,
  });
}
