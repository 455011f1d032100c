import { access } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { fail } from "@coppice/proto/kit/failure";
import { readMigrationFiles } from "drizzle-orm/migrator";
import { drizzle } from "drizzle-orm/postgres-js";
import { migrate } from "drizzle-orm/postgres-js/migrator";
import type postgres from "postgres";
import { openClient } from "./connection/client.ts";
import { catalogFailure } from "./driver-error.ts";

/** The oldest PostgreSQL that can hold a catalog, as server_version_num spells it. */
const oldestServer = 150_000;
/** Replicas that start at once migrate one after the other: all of them take this advisory lock. */
const lockKey = 7_306_086_967n;

/** What migrating did. */
export interface Migrated {
  /** How many migrations were applied now; 0 when the schema was up to date. */
  readonly applied: number;
}

/**
 * Brings the catalog's schema up to date. Errors: SCHEMA_TOO_NEW when a newer Coppice made it, CONFIGURATION_INVALID
 * when its PostgreSQL is too old, CATALOG_UNREACHABLE.
 */
export async function migrateCatalog(url: string): Promise<Migrated> {
  // One connection: the lock belongs to a session, and drizzle must not take another one.
  const client = openClient({ url, applicationName: "coppice-migrate", max: 1 });
  try {
    await refuseOldServer(client);
    await client`select pg_advisory_lock(${lockKey.toString()}::bigint)`;
    const folder = await findMigrations();
    const known = readMigrationFiles({ migrationsFolder: folder }).map(({ folderMillis }) => folderMillis);
    const before = await appliedMigrations(client);
    const newest = Math.max(...known);
    if (before.some((time) => time > newest)) {
      fail("SCHEMA_TOO_NEW", "the catalog's schema is newer than this program");
    }
    await migrate(drizzle(client), { migrationsFolder: folder });
    return { applied: known.length - before.length };
  } catch (error) {
    throw catalogFailure(error) ?? error;
  } finally {
    await client.end({ timeout: 5 });
  }
}

async function refuseOldServer(client: postgres.Sql): Promise<void> {
  const [row] = await client<{ version: string; number: number }[]>`
    select current_setting('server_version') as version, current_setting('server_version_num')::int as number`;
  if (row === undefined || row.number < oldestServer) {
    fail("CONFIGURATION_INVALID", `the catalog's PostgreSQL is ${row?.version ?? "unknown"}, 15 or newer is expected`, {
      hint: "point COPPICE_DATABASE_URL at a newer server",
    });
  }
}

async function appliedMigrations(client: postgres.Sql): Promise<number[]> {
  const [table] = await client<{ there: boolean }[]>`
    select to_regclass('drizzle.__drizzle_migrations') is not null as there`;
  if (table?.there !== true) return [];
  const rows = await client<{ created_at: string }[]>`select created_at from drizzle.__drizzle_migrations`;
  return rows.map((row) => Number(row.created_at));
}

/** The migrations lie beside the folder of the bundle, or, in the source tree, beside `src`. */
async function findMigrations(): Promise<string> {
  for (const candidate of ["../migrations", "../../migrations"]) {
    const folder = fileURLToPath(new URL(candidate, import.meta.url));
    try {
      await access(`${folder}/meta/_journal.json`);
      return folder;
    } catch (error) {
      if (!(error instanceof Error && "code" in error && error.code === "ENOENT")) throw error;
    }
  }
  return fail("CONFIGURATION_INVALID", "the catalog's migrations are not beside the program", {
    hint: "install the package again",
  });
}
