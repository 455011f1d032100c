import { catalogFailure } from "./driver-error.ts";
import { openClient } from "./client.ts";
import { migrateCatalog } from "./migrate.ts";
import { catalogState } from "./schema/state.ts";
import { sql } from "drizzle-orm";
import { drizzle, type PostgresJsQueryResultHKT } from "drizzle-orm/postgres-js";
import type { PgDatabase } from "drizzle-orm/pg-core";

/** What queries run on: the catalog itself, or a transaction of it. */
export type Database = PgDatabase<PostgresJsQueryResultHKT>;

/** The control plane's own database, migrated and open. */
export interface Catalog extends AsyncDisposable {
  readonly db: Database;
  /** Of this catalog; a catalog that was rebuilt has a greater one. */
  readonly incarnation: bigint;
  /** Runs the work in one transaction. Broken constraints come out as the failures they mean. */
  transaction<T>(work: (tx: Database) => Promise<T>): Promise<T>;
  /** Fails with CATALOG_UNREACHABLE when the database does not answer. */
  checkReachable(): Promise<void>;
  /** Calls back for each NOTIFY on the channel, until disposed; goes on by itself after a lost connection. */
  listen(channel: string, onNotice: (payload: string) => void): Promise<AsyncDisposable>;
}

/**
 * Migrates and opens the catalog at the URL. Errors: as migrateCatalog. `signal` ends the opening, not the catalog:
 * dispose that.
 */
export async function openCatalog({ url, signal }: { url: string; signal: AbortSignal }): Promise<Catalog> {
  signal.throwIfAborted();
  await migrateCatalog(url);
  signal.throwIfAborted();
  await using opening = new AsyncDisposableStack();
  const client = openClient({ url, applicationName: "coppice-control", max: 12 });
  opening.defer(() => client.end({ timeout: 5 }));
  // drizzle changes the parsers of the client it is given, so listening has its own.
  const listener = openClient({ url, applicationName: "coppice-control-listen", max: 1 });
  opening.defer(() => listener.end({ timeout: 5 }));
  const db: Database = drizzle(client, { casing: "snake_case" });
  const incarnation = await readIncarnation(db);
  const resources = opening.move();
  return {
    db,
    incarnation,
    transaction: async (work) => {
      try {
        return await db.transaction(work);
      } catch (error) {
        throw catalogFailure(error) ?? error;
      }
    },
    checkReachable: async () => {
      try {
        await db.execute(sql`select 1`);
      } catch (error) {
        throw catalogFailure(error) ?? error;
      }
    },
    listen: async (channel, onNotice) => {
      const listening = await listener.listen(channel, onNotice);
      return { [Symbol.asyncDispose]: () => listening.unlisten() };
    },
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}

async function readIncarnation(db: Database): Promise<bigint> {
  await db
    .insert(catalogState)
    .values({ incarnation: BigInt(Date.now()) })
    .onConflictDoNothing();
  const [row] = await db.select().from(catalogState);
  if (row === undefined) throw new Error("the catalog has no state");
  return row.incarnation;
}
