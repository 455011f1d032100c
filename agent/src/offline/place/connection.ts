import { create } from "@bufbuild/protobuf";
import { type Endpoint, EndpointSchema } from "@coppice/proto/gen/coppice/common/v1/connection";
import { fail } from "@coppice/proto/kit/failure";
import { sslModes } from "../../postgres/endpoint.ts";

const hint =
  "write the socket's folder (/run/postgresql or /run/postgresql:5433), HOST[:PORT], or libpq's words such as " +
  "'service=new' or 'host=db8 port=5433 sslmode=require'; a password stands in ~/.pgpass or PGPASSWORD";

/**
 * Reads where a server is: the folder of its socket, with `:port` where it is not 5432, `host:port`, or keywords of
 * libpq (host, port, user, dbname, sslmode, sslrootcert, service). `user` wins over one that is in it; a password is
 * refused, since everybody may read arguments. Fails with INVALID_FIELD.
 */
export function parseConnection(text: string, user?: string): Endpoint {
  const endpoint = text.includes("=") ? fromKeywords(text) : fromAddress(text);
  if (user !== undefined) endpoint.user = user;
  return endpoint;
}

function refuse(text: string): never {
  // A URL may hold a password.
  const shown = text.includes("@") ? "the connection" : JSON.stringify(text);
  return fail("INVALID_FIELD", `${shown} is not where a server is`, { hint });
}

function fromAddress(text: string): Endpoint {
  const [, folder, number] = /^(\/[^\0]*?)(?:(?::|\/\.s\.PGSQL\.)(\d{1,5}))?$/.exec(text) ?? [];
  if (folder !== undefined) return at(folder, parsePort(text, number));
  const [, bracketed, plain, port] = /^(?:\[([0-9a-fA-F:.%a-z]+)\]|([^\s/:@]+))(?::(\d{1,5}))?$/.exec(text) ?? [];
  const host = bracketed ?? plain ?? (/^[0-9a-fA-F:]*:[0-9a-fA-F:.]*$/.test(text) ? text : undefined);
  return host === undefined ? refuse(text) : at(host, parsePort(text, port));
}

function at(host: string, port: number): Endpoint {
  const address = { case: host.startsWith("/") ? ("socketDirectory" as const) : ("host" as const), value: host };
  return create(EndpointSchema, { address, port });
}

function parsePort(text: string, port: string | undefined): number {
  if (port === undefined) return 0;
  return Number(port) > 0 && Number(port) <= 65_535 ? Number(port) : refuse(text);
}

function fromKeywords(text: string): Endpoint {
  const values = new Map<string, string>();
  const pair = /\s*([a-z]+)\s*=\s*(?:'((?:[^'\\]|\\.)*)'|((?:[^\s'\\]|\\.)*))(?=\s|$)/gsy;
  let end = 0;
  for (const [whole, keyword = "", quoted, plain] of text.matchAll(pair)) {
    values.set(keyword, (quoted ?? plain ?? "").replaceAll(/\\(.)/gs, "$1"));
    end += whole.length;
  }
  if (values.has("password"))
    fail("INVALID_FIELD", "the connection holds a password, which everybody could read", { hint });
  // Not the text, in which a password may have been meant.
  if (text.slice(end).trim() !== "") fail("INVALID_FIELD", "the connection is not keyword=value", { hint });
  const known = ["host", "port", "user", "dbname", "sslmode", "sslrootcert", "service"];
  const unknown = [...values.keys()].find((keyword) => !known.includes(keyword));
  if (unknown !== undefined) fail("INVALID_FIELD", `the connection sets ${unknown}, which is not supported`, { hint });
  const sslmode = values.get("sslmode") ?? "";
  if (sslmode !== "" && !sslModes.some((mode) => mode === sslmode)) refuse(`sslmode=${sslmode}`);
  const host = values.get("host");
  return create(EndpointSchema, {
    ...(host ? { address: at(host, 0).address } : {}),
    port: parsePort(`port=${values.get("port")}`, values.get("port")),
    user: values.get("user") ?? "",
    maintenanceDatabase: values.get("dbname") ?? "",
    sslmode,
    sslrootcert: values.get("sslrootcert") ?? "",
    service: values.get("service") ?? "",
  });
}
