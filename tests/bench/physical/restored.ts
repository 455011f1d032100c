import { freePort } from "../../support/free-port.ts";
import { ask, asServer } from "../../support/scenarios/restored-server.ts";
import type { Lab } from "../lab.ts";

/** A server that somebody else restores and starts, and how it is asked. */
export interface RestoredServer extends AsyncDisposable {
  readonly directory: string;
  readonly port: number;
  /** Arguments of `coppice restore create` that make it and start it. */
  readonly arguments: readonly string[];
  /** As PostgresServer's; fails with what the server said. */
  sql(database: string, text: string): Promise<string>;
  /** Stops it; nothing happens when none runs. */
  stop(): Promise<void>;
}

/** Chooses where a server is to be restored to; disposing stops what was started there. */
export async function openRestored({ server }: Lab, directory: string): Promise<RestoredServer> {
  const port = await freePort();
  const stop = async () => void (await asServer(server, "pg_ctl", ["-D", directory, "-m", "immediate", "-w", "stop"]));
  return {
    directory,
    port,
    arguments: ["--to", `db7:${directory}`, "--start", "--port", String(port)],
    // Equal answers count; what psql says of a refusal equals none.
    sql: (database, text) => ask(server, port, database, text),
    stop,
    [Symbol.asyncDispose]: stop,
  };
}
