import postgres from "postgres";
import { WatchedSocket } from "./watched-socket.ts";

/** How a client of the catalog's database is opened; sizes in connections. */
export interface ClientOptions {
  readonly url: string;
  readonly applicationName: string;
  readonly max: number;
  /**
   * Gives up connections whose other end has fallen silent, and before that has the server end what takes so long;
   * without it a query takes as long as it takes.
   */
  readonly watch?: { readonly silentMs: number; readonly onSilence: (address: string) => void } | undefined;
}

/**
 * A lazy pool of connections to the catalog. The URL is libpq's, as far as it goes: `?host=/folder` (with `port`)
 * names a Unix socket.
 */
export function openClient({ url, applicationName, max, watch }: ClientOptions): postgres.Sql {
  const parsed = new URL(url);
  const socketFolder = parsed.searchParams.get("host");
  const port = parsed.searchParams.get("port");
  parsed.searchParams.delete("host");
  parsed.searchParams.delete("port");
  if (port !== null) parsed.port = port;
  const path =
    socketFolder === null ? undefined : `${socketFolder}/.s.PGSQL.${parsed.port === "" ? "5432" : parsed.port}`;
  return postgres(parsed.href, {
    max,
    connect_timeout: 10,
    // The driver would ask for them by a query that nobody awaits: one that fails ends the process. Columns know theirs.
    fetch_types: false,
    onnotice: () => {},
    connection: { application_name: applicationName, ...(watch && { statement_timeout: statementMs(watch) }) },
    ...(path === undefined ? {} : { path }),
    ...(watch === undefined ? {} : watched(watch, path)),
  });
}

/**
 * What waits for a lock would hold its place among the server's connections also when its own is given up, for it reads
 * nothing meanwhile: with each new try one more.
 */
function statementMs({ silentMs }: NonNullable<ClientOptions["watch"]>): number {
  return Math.floor((silentMs * 5) / 6);
}

/** The driver bounds no query, so its sockets do; and it closes those that nobody uses before they look silent. */
function watched({ silentMs, onSilence }: NonNullable<ClientOptions["watch"]>, path: string | undefined) {
  // Of several servers the next one, after a connection to one has ended.
  let turn = 0;
  const socket = ({ host, port }: { readonly host: readonly string[]; readonly port: readonly number[] }) => {
    const mine = turn;
    const to = { host: host[mine % host.length] ?? "localhost", port: port[mine % port.length] ?? 5432 };
    const onEnd = () => {
      if (turn === mine) turn = (mine + 1) % host.length;
    };
    return new WatchedSocket({
      to: path === undefined ? to : { path },
      silentMs,
      onSilence: () => onSilence(path ?? `${to.host}:${to.port}`),
      onEnd,
    });
  };
  return { socket, idle_timeout: ((silentMs / 1000) * 2) / 3 };
}
