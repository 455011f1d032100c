import { isFailure } from "@coppice/proto/kit/failure";
import type { PostgresConnection } from "../../postgres/connect.ts";

/** A file of a server's configuration that lies outside its data directory. */
export interface ConfigFile {
  readonly path: string;
  readonly role: "config_file" | "hba_file" | "ident_file" | "include";
  /** Undefined where it could not be read. */
  readonly content: Buffer | undefined;
  /** Why not; empty otherwise. */
  readonly problem: string;
}

type Listed = Pick<ConfigFile, "path" | "role">;

/** Larger ones are no configuration. */
const mostBytes = 1024 * 1024;

async function listFiles(connection: PostgresConnection): Promise<Listed[]> {
  const named = await connection.query<{ role: ConfigFile["role"]; path: string | null }>(`
    select name as role, setting as path from pg_settings where name in ('config_file', 'hba_file', 'ident_file')
    order by name`);
  const included = await connection.query<{ path: string }>(`
    select distinct sourcefile as path from pg_settings where sourcefile is not null order by 1`);
  const known = new Set(named.map(({ path }) => path));
  return [
    ...named.flatMap(({ role, path }): Listed[] => (path ? [{ role, path }] : [])),
    ...included.filter(({ path }) => !known.has(path)).map(({ path }): Listed => ({ role: "include", path })),
  ];
}

async function readOne(connection: PostgresConnection, file: Listed): Promise<ConfigFile> {
  try {
    const { content } = await connection.queryOne<{ content: Buffer }>(
      "select pg_read_binary_file($1, 0, $2) as content",
      [file.path, mostBytes + 1],
    );
    if (content.length > mostBytes)
      return { ...file, content: undefined, problem: `it has more than ${mostBytes} bytes` };
    return { ...file, content, problem: "" };
  } catch (error) {
    if (!isFailure(error) || error.reason === "CLUSTER_UNREACHABLE") throw error;
    return { ...file, content: undefined, problem: error.message };
  }
}

/**
 * The configuration that a backup of the data directory does not hold, as far as the server's role may read it. What is
 * in the directory comes with the archives. Fails like a query.
 */
export async function readConfigFiles(connection: PostgresConnection, dataDirectory: string): Promise<ConfigFile[]> {
  if (dataDirectory === "") return [];
  const isInside = (path: string) => path.startsWith(`${dataDirectory}/`);
  const outside = (await listFiles(connection)).filter(({ path }) => !isInside(path));
  const read: ConfigFile[] = [];
  for (const file of outside) read.push(await readOne(connection, file));
  return read;
}
