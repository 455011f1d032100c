import { Client } from "pg";
import { waitFor } from "../installation.ts";
import type { PostgresServer } from "../postgres-servers.ts";

/** A table that nobody else can read, so that a dump of its database waits in the middle of its work. */
export interface HeldTable extends AsyncDisposable {
  /** Resolves when somebody waits for the table. */
  waitedFor(): Promise<void>;
  /** Lets the table go. */
  release(): Promise<void>;
  /** Resolves when the server has ended the session that holds the table. */
  readonly lost: Promise<void>;
}

/** Locks the table until it is released or disposed of. */
export async function holdTable(server: PostgresServer, database: string, table: string): Promise<HeldTable> {
  const { port, superuser: user, password } = server;
  const client = new Client({ host: "127.0.0.1", port, user, password, database });
  const { promise: lost, resolve } = Promise.withResolvers<void>();
  let isHeld = true;
  client.on("error", () => {
    isHeld = false;
    resolve();
  });
  await client.connect();
  await client.query(`begin; lock table ${table} in access exclusive mode`);
  return {
    async waitedFor() {
      await waitFor(`somebody waits for ${table}`, async () => {
        const { rowCount } = await client.query(
          "select from pg_locks l join pg_database d on d.oid = l.database where not l.granted and d.datname = $1",
          [database],
        );
        return rowCount !== 0;
      });
    },
    lost,
    async release() {
      isHeld = false;
      await client.query("rollback");
    },
    async [Symbol.asyncDispose]() {
      if (isHeld) await client.query("rollback");
      await client.end();
    },
  };
}
