import { fail } from "@coppice/proto/kit/failure";

/** Settings of a connection service that Coppice carries out itself; libpq's names. */
const knownKeywords = [
  "host",
  "hostaddr",
  "port",
  "dbname",
  "user",
  "password",
  "passfile",
  "sslmode",
  "sslrootcert",
  "sslcert",
  "sslkey",
] as const;

/** Settings that change nothing of what is reached and how safely; they are passed over. */
const harmlessKeywords = new Set([
  "application_name",
  "fallback_application_name",
  "client_encoding",
  "connect_timeout",
  "keepalives",
  "keepalives_idle",
  "keepalives_interval",
  "keepalives_count",
  "tcp_user_timeout",
]);

/** A connection service: libpq's keywords with their values. */
export type ServiceSettings = Partial<Record<(typeof knownKeywords)[number], string>>;

/**
 * The settings of one service of a pg_service.conf, or undefined when the file has none of that name; `file` names it in
 * messages. A setting that cannot be carried out is refused, never dropped: it may be there for safety's sake.
 * Fails with CONNECTION_SERVICE_INVALID.
 */
export function parseService(text: string, service: string, file: string): ServiceSettings | undefined {
  let settings: ServiceSettings | undefined;
  for (const [index, raw] of text.split("\n").entries()) {
    const line = raw.trim();
    if (line === "" || line.startsWith("#")) continue;
    if (line.startsWith("[")) {
      // Like libpq, which stops at the section after the one it looks for.
      if (settings) return settings;
      if (line === `[${service}]`) settings = {};
      continue;
    }
    if (!settings) continue;
    const equals = line.indexOf("=");
    const keyword = line.slice(0, Math.max(equals, 0)).trim();
    const where = `line ${index + 1} of ${file}`;
    if (equals < 1) fail("CONNECTION_SERVICE_INVALID", `${where} is not keyword=value`);
    const known = knownKeywords.find((each) => each === keyword);
    if (known) settings[known] ??= line.slice(equals + 1);
    else if (!harmlessKeywords.has(keyword))
      fail("CONNECTION_SERVICE_INVALID", `${where} sets ${keyword}, which is not supported`, {
        hint: `take ${keyword} out of the service ${service}, or use another service`,
      });
  }
  return settings;
}
