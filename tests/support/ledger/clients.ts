import { closeSync, openSync, writeSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { parseLsn } from "@coppice/proto/kit/wal/lsn";
import { Client } from "pg";
import type { PostgresServer } from "../postgres-servers.ts";
import type { Entry } from "./judge.ts";
import type { Random } from "./random.ts";

/** Clients that write rows, and beside the database when they sent COMMIT and when it was acknowledged. */
export interface LedgerClients extends AsyncDisposable {
  /** Every transaction whose COMMIT was sent, in no order. */
  readonly entries: readonly Entry[];
  /** Runs the work while no transaction is open. */
  still<Value>(work: () => Promise<Value>): Promise<Value>;
  /** Resolves when all of them have ended. */
  end(): Promise<void>;
}

/** Name of the database that the clients write in. */
export const ledgerDatabase = "bank";
/** Ids of the transactions that are there. */
export const restoredIds = "select id from ledger order by id";
/** Nothing, when every transaction is there as a whole. */
export const tornClients = `select a.id, a.balance, count(l.id) from accounts a left join ledger l on l.client = a.id
  group by 1, 2 having a.balance <> count(l.id)`;

const mostPauseMs = 25;
const retryMs = 50;

/**
 * Makes the database and starts so many clients. Each transaction counts up its client's account and adds a row of up
 * to a few kilobytes; a lost connection is made anew. `file` gets a line for each COMMIT that is sent or acknowledged.
 */
export async function openLedgerClients(
  server: PostgresServer,
  { count, file, random }: { readonly count: number; readonly file: string; readonly random: Random },
): Promise<LedgerClients> {
  await server.sql("postgres", `create database ${ledgerDatabase}`);
  await server.sql(
    ledgerDatabase,
    `create table ledger (id bigint primary key, client int not null, payload text not null);
    create table accounts as select id, 0::bigint as balance from generate_series(1, ${count}) id;
    alter table accounts add primary key (id)`,
  );
  const entries: Entry[] = [];
  const log = openSync(file, "a");
  let lastId = 0;
  // One object: what a loop waits for is changed by others.
  const now: { isEnding: boolean; gate: Promise<void> | undefined; open: number } = {
    isEnding: false,
    gate: undefined,
    open: 0,
  };

  async function transact(client: Client, number: number): Promise<void> {
    lastId += 1;
    const id = lastId;
    await client.query("begin");
    await client.query("update accounts set balance = balance + 1 where id = $1", [number]);
    const { rows } = await client.query<{ lsn: string }>(
      `insert into ledger select $1, $2, string_agg(md5(random()::text), '') from generate_series(1, $3::int)
        returning pg_current_wal_insert_lsn()::text as lsn`,
      [id, number, 1 + Math.floor(random.number(60))],
    );
    // The clock is read in milliseconds, so it is cut off here and rounded up there.
    const entry: Entry = {
      id,
      client: number,
      sentUs: Date.now() * 1000,
      sentLsn: parseLsn(rows[0]?.lsn ?? ""),
      ackedUs: undefined,
      ackedLsn: undefined,
    };
    writeSync(log, `sent ${id} ${entry.sentUs}\n`);
    entries.push(entry);
    await client.query("commit");
    entry.ackedUs = (Date.now() + 1) * 1000;
    writeSync(log, `acknowledged ${id} ${entry.ackedUs}\n`);
    const after = await client.query<{ lsn: string }>("select pg_current_wal_insert_lsn()::text as lsn");
    entry.ackedLsn = parseLsn(after.rows[0]?.lsn ?? "");
  }

  async function work(number: number): Promise<void> {
    const { port, superuser: user, password } = server;
    while (!now.isEnding) {
      const client = new Client({ host: "127.0.0.1", port, user, password, database: ledgerDatabase });
      client.on("error", () => {});
      try {
        await client.connect();
        while (!now.isEnding) {
          while (now.gate) await now.gate;
          now.open += 1;
          await transact(client, number).finally(() => (now.open -= 1));
          await delay(random.number(mostPauseMs));
        }
      } catch {
        // A server that is stopped in the middle is part of the test: what was sent is noted, and the next one goes on.
        await delay(retryMs);
      } finally {
        await client.end().catch(() => {});
      }
    }
  }

  const working = Array.from({ length: count }, (_, index) => work(index + 1));
  const end = async () => {
    now.isEnding = true;
    await Promise.all(working);
  };
  return {
    entries,
    end,
    async still(quiet) {
      const { promise, resolve } = Promise.withResolvers<void>();
      now.gate = promise;
      try {
        while (now.open > 0) await delay(1);
        return await quiet();
      } finally {
        now.gate = undefined;
        resolve();
      }
    },
    async [Symbol.asyncDispose]() {
      await end();
      closeSync(log);
    },
  };
}
