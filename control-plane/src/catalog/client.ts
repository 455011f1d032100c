import postgres from "postgres";

/** How a client of the catalog's database is opened; sizes in connections. */
export interface ClientOptions {
  readonly url: string;
  readonly applicationName: string;
  readonly max: number;
}

/**
 * A lazy pool of connections to the catalog. The URL is libpq's, as far as it goes: `?host=/folder` (with `port`)
 * names a Unix socket.
 */
export function openClient({ url, applicationName, max }: ClientOptions): postgres.Sql {
  const parsed = new URL(url);
  const socketFolder = parsed.searchParams.get("host");
  const port = parsed.searchParams.get("port");
  parsed.searchParams.delete("host");
  parsed.searchParams.delete("port");
  if (port !== null) parsed.port = port;
  return postgres(parsed.href, {
    max,
    connect_timeout: 10,
    onnotice: () => {},
    connection: { application_name: applicationName },
    ...(socketFolder === null ? {} : { path: `${socketFolder}/.s.PGSQL.${parsed.port === "" ? "5432" : parsed.port}` }),
  });
}
