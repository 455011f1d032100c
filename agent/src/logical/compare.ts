import { fail } from "@coppice/proto/kit/failure";
import { openConnection } from "../postgres/connect.ts";
import type { ResolvedEndpoint } from "../postgres/endpoint.ts";
import type { ToolAccess } from "../postgres/tool-access.ts";
import type { ArchiveEntry } from "./archive/contents.ts";
import { readDatabaseContents } from "./archive/database-contents.ts";
import { missingObjects } from "./archive/objects.ts";
import { describeEntries } from "./archive/select.ts";

/** What was found in a restored database. */
export interface Compared {
  /** Objects of the archive that are there. */
  readonly objects: number;
  readonly tables: number;
  readonly rows: bigint;
  readonly warnings: string[];
}

/** What a restored database is compared with. */
export interface Expected {
  /** Objects that have to be there; undefined where nothing lists them (a script). */
  readonly objects: readonly ArchiveEntry[] | undefined;
  /** Major of the pg_dump that listed them. */
  readonly toolMajor: number;
  /** Whether each has to belong to the role it belonged to. */
  readonly hasOwners: boolean;
  /** The tables whose rows are counted; undefined is all of the database. */
  readonly tables: readonly Pick<ArchiveEntry, "schema" | "name">[] | undefined;
}

/** A restored database and what it is compared with. */
export interface Comparison {
  readonly expected: Expected;
  readonly access: ToolAccess;
  readonly endpoint: ResolvedEndpoint;
  readonly database: string;
  readonly signal: AbortSignal;
  readonly onTable: (done: number, total: number) => void;
}

async function compareObjects({ expected, access, database, signal }: Comparison) {
  const { objects, toolMajor, hasOwners } = expected;
  if (objects === undefined)
    return { found: 0, warnings: ["the objects of a SQL script are not compared: nothing lists them but itself"] };
  const restored = await readDatabaseContents(access, database, signal);
  const missing = missingObjects(objects, restored.entries, hasOwners);
  const found = objects.length - missing.length;
  if (missing.length === 0) return { found, warnings: [] };
  const message = `${missing.length} objects of the archive are not in the restored database: ${describeEntries(missing)}`;
  // Majors list some objects differently, and that must not stop an upgrade.
  if (toolMajor !== restored.toolMajor) return { found, warnings: [message] };
  return fail("ARCHIVE_DIFFERS", `${message} ${JSON.stringify(database)}`);
}

async function countRows({ expected, endpoint, database, signal, onTable }: Comparison) {
  await using connection = await openConnection(endpoint, { database, signal });
  await connection.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
  // Where row security would hide rows, an error is better than a wrong number.
  await connection.query("SET LOCAL row_security = off");
  const found = await connection.query<{ name: string; place: string }>(`
    select c.oid::regclass::text as name, json_build_array(n.nspname, c.relname)::text as place
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind = 'r' and c.relpersistence <> 't' and n.nspname not in ('pg_catalog', 'information_schema')
    order by c.oid`);
  const places = expected.tables && new Set(expected.tables.map(({ schema, name }) => JSON.stringify([schema, name])));
  const names = found
    .filter(({ place }) => places?.has(JSON.stringify(JSON.parse(place))) ?? true)
    .map(({ name }) => name);
  let rows = 0n;
  for (const [index, name] of names.entries()) {
    const { count } = await connection.queryOne<{ count: string }>(`select count(*)::text as count from only ${name}`);
    rows += BigInt(count);
    onTable(index + 1, names.length);
  }
  await connection.query("COMMIT");
  return { tables: names.length, rows };
}

/**
 * Compares a restored database with what an archive lists, entry by entry, and counts the rows of every table in one
 * snapshot. Fails with ARCHIVE_DIFFERS when something is not there.
 */
export async function compareDatabase(comparison: Comparison): Promise<Compared> {
  const stop = new AbortController();
  const signal = AbortSignal.any([comparison.signal, stop.signal]);
  const both = { ...comparison, signal };
  try {
    // Both read other things; together they take as long as the longer one.
    const [{ found, warnings }, { tables, rows }] = await Promise.all([compareObjects(both), countRows(both)]);
    return { objects: found, tables, rows, warnings };
  } catch (error) {
    stop.abort(error);
    throw error;
  }
}
