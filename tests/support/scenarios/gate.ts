import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Client } from "pg";
import { waitFor } from "../installation.ts";
import type { PostgresServer } from "../postgres-servers.ts";

/** Stops every restore of a database in its middle: one of its indexes is not built while the gate is closed. */
export interface Gate {
  close(): Promise<void>;
  open(): Promise<void>;
  /** Resolves when a session of the named database, a LIKE pattern, stands before the closed gate. */
  waitedFor(database: string): Promise<void>;
}

/**
 * Puts the gate into a database of the server: a table whose index calls a function that waits while a file of the
 * server's is there, as an index over a slow function would.
 */
export async function putGate(server: PostgresServer, database: string): Promise<Gate> {
  const file = join(server.dataDir, "gate");
  await server.sql(
    database,
    `create function pass_gate(a int) returns int language plpgsql immutable as $$
     begin
       while (select true from pg_stat_file('gate', true) f where f.size is not null) loop
         perform pg_sleep(0.05);
       end loop;
       return a;
     end$$;
     create table gated as select 1 as a; create index on gated (pass_gate(a))`,
  );
  return {
    close: () => writeFile(file, ""),
    open: () => rm(file, { force: true }),
    async waitedFor(pattern) {
      const { port, superuser: user, password } = server;
      const client = new Client({ host: "127.0.0.1", port, user, password, database: "postgres" });
      await client.connect();
      try {
        await waitFor(`a session of ${pattern} stands before the gate`, async () => {
          const { rowCount } = await client.query(
            "select from pg_stat_activity where datname like $1 and wait_event = 'PgSleep'",
            [pattern],
          );
          return rowCount !== 0;
        });
      } finally {
        await client.end();
      }
    },
  };
}
