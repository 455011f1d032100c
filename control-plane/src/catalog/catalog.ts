import { Failure } from "@coppice/proto/kit/failure";
import { catalogFailure, isLostConnection } from "./driver-error.ts";
import { openClient } from "./connection/client.ts";
import { migrateCatalog } from "./migrate.ts";
import { catalogState } from "./schema/state.ts";
import { sql } from "drizzle-orm";
import { drizzle, type PostgresJsQueryResultHKT } from "drizzle-orm/postgres-js";
import type { PgDatabase } from "drizzle-orm/pg-core";
import type { Logger } from "pino";

/** What queries run on: the catalog itself, or a transaction of it. */
export type Database = PgDatabase<PostgresJsQueryResultHKT>;

/** The control plane's own database, migrated and open. */
export interface Catalog extends AsyncDisposable {
  readonly db: Database;
  /** Of this catalog; a catalog that was rebuilt has a greater one. */
  readonly incarnation: bigint;
  /** Runs the work in one transaction. Broken constraints come out as the failures they mean. */
  transaction<T>(work: (tx: Database) => Promise<T>): Promise<T>;
  /** Fails with CATALOG_UNREACHABLE when the database does not answer, at the latest after some seconds. */
  checkReachable(): Promise<void>;
  /** Calls back for each NOTIFY on the channel, until disposed; goes on by itself after a lost connection. */
  listen(channel: string, onNotice: (payload: string) => void): Promise<AsyncDisposable>;
}

/** What is asked of the catalog takes milliseconds: a connection that owes an answer for so long leads nowhere. */
const longestSilenceMs = 30_000;
/** Load balancers do not wait for longer. */
const longestLookMs = 5000;
/** Who listens for this hears that its connection still leads to the catalog. */
const aliveChannel = "coppice_alive";

/** What a catalog is opened with. */
export interface CatalogOptions {
  readonly url: string;
  /** Ends the opening, not the catalog: dispose that. */
  readonly signal: AbortSignal;
  /** Hears of connections that were given up. */
  readonly log?: Logger;
  /** For so long a connection may owe an answer. */
  readonly silentMs?: number | undefined;
}

/** Migrates and opens the catalog at the URL. Errors: as migrateCatalog. */
export async function openCatalog(options: CatalogOptions): Promise<Catalog> {
  const { url, signal, log, silentMs = longestSilenceMs } = options;
  signal.throwIfAborted();
  await migrateCatalog(url);
  signal.throwIfAborted();
  await using opening = new AsyncDisposableStack();
  let toldMs = -Infinity;
  const onSilence = (address: string) => {
    // All connections fall silent at once, and are found within this time.
    if (performance.now() - toldMs < silentMs) return;
    toldMs = performance.now();
    log?.warn(
      { address, silentMs },
      "the catalog's database does not answer on open connections: it hangs, the way to it does, or it waits for a synchronous standby; they are given up, and others opened",
    );
  };
  const watch = { silentMs, onSilence };
  const client = openClient({ url, applicationName: "coppice-control", max: 12, watch });
  opening.defer(() => client.end({ timeout: 5 }));
  // drizzle changes the parsers of the client it is given, so listening has its own.
  const listener = openClient({ url, applicationName: "coppice-control-listen", max: 1, watch });
  opening.defer(() => listener.end({ timeout: 5 }));
  // Who only listens asks nothing, so that its silence would mean nothing: it is told something now and then.
  await listener.listen(aliveChannel, () => {});
  const alive = setInterval(() => {
    // Why this fails is told by all others, or by its silence.
    client.notify(aliveChannel, "").catch(() => {});
  }, silentMs / 3).unref();
  opening.defer(() => clearInterval(alive));
  const db: Database = drizzle(client, { casing: "snake_case" });
  const incarnation = await readIncarnation(db);
  const resources = opening.move();
  return {
    db,
    incarnation,
    transaction: async (work) => {
      try {
        return await db.transaction((tx) => heldIfLost(work(tx)));
      } catch (error) {
        throw catalogFailure(error) ?? error;
      }
    },
    checkReachable: async () => {
      using look = openLook();
      try {
        await Promise.race([db.execute(sql`select 1`), look.isOver]);
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

/** Fails when a look has taken too long; what was asked goes on, until its connection is given up. */
function openLook(): Disposable & { readonly isOver: Promise<never> } {
  const over = Promise.withResolvers<never>();
  const timer = setTimeout(() => {
    const message = `the catalog's database has not answered for ${longestLookMs / 1000} s`;
    over.reject(new Failure("CATALOG_UNREACHABLE", message));
  }, longestLookMs);
  return { isOver: over.promise, [Symbol.dispose]: () => clearTimeout(timer) };
}

/**
 * The outcome of a transaction's work; none when its connection was lost. The driver then ends the transaction itself,
 * and to an error it would send a rollback, by a connection that is no more, which ends the process.
 */
async function heldIfLost<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (isLostConnection(error)) await new Promise<never>(() => {});
    throw error;
  }
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
