import { fail } from "@coppice/proto/kit/failure";
import { openConnection } from "../postgres/connect.ts";
import type { ResolvedEndpoint } from "../postgres/endpoint.ts";
import type { ToolAccess } from "../postgres/tool-access.ts";
import { type ArchiveToc, missingEntries, readDatabaseToc } from "./archive-toc.ts";

/** What was found in a restored database. */
export interface Compared {
  /** Objects of the archive that are there. */
  readonly objects: number;
  readonly tables: number;
  readonly rows: bigint;
  readonly warnings: string[];
}

const namedAtMost = 5;

function compareObjects(
  archive: ArchiveToc,
  restored: ArchiveToc,
  database: string,
): { found: number; warnings: string[] } {
  const missing = missingEntries(archive.objects, restored.objects);
  const found = archive.objects.length - missing.length;
  if (missing.length === 0) return { found, warnings: [] };
  const list = missing
    .slice(0, namedAtMost)
    .map((entry) => JSON.stringify(entry))
    .join(", ");
  const more = missing.length > namedAtMost ? ` and ${missing.length - namedAtMost} more` : "";
  const message = `${missing.length} objects of the archive are not in the restored database: ${list}${more}`;
  // Majors list some objects differently, and that must not stop an upgrade.
  if (archive.toolMajor !== restored.toolMajor) return { found, warnings: [message] };
  return fail("ARCHIVE_DIFFERS", `${message} ${JSON.stringify(database)}`);
}

/**
 * Compares a restored database with the archive's table of contents, entry by entry, and counts the rows of every table
 * in one snapshot. Fails with ARCHIVE_DIFFERS when something is not there.
 */
export async function compareDatabase(request: {
  readonly archive: ArchiveToc;
  readonly access: ToolAccess;
  readonly endpoint: ResolvedEndpoint;
  readonly database: string;
  readonly signal: AbortSignal;
  readonly onTable: (done: number, total: number) => void;
}): Promise<Compared> {
  const { access, database, endpoint, signal } = request;
  const { found, warnings } = compareObjects(
    request.archive,
    await readDatabaseToc(access, database, signal),
    database,
  );
  await using connection = await openConnection(endpoint, { database, signal });
  await connection.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
  // Where row security would hide rows, an error is better than a wrong number.
  await connection.query("SET LOCAL row_security = off");
  const tables = await connection.query<{ name: string }>(`
    select c.oid::regclass::text as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind = 'r' and c.relpersistence <> 't' and n.nspname not in ('pg_catalog', 'information_schema')
    order by c.oid`);
  let rows = 0n;
  for (const [index, { name }] of tables.entries()) {
    const { count } = await connection.queryOne<{ count: string }>(`select count(*)::text as count from only ${name}`);
    rows += BigInt(count);
    request.onTable(index + 1, tables.length);
  }
  await connection.query("COMMIT");
  return { objects: found, tables: tables.length, rows, warnings };
}
