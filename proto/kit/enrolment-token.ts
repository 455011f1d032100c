import { fail } from "./failure.ts";

/** What `coppice host add` hands to a new agent in one line: whom to call, whom to trust, and the secret to show. */
export interface EnrolmentToken {
  /** Where the control plane answers: `https://host:port`, at least one. */
  readonly addresses: readonly string[];
  /** Fingerprint of its root certificate, as certificateFingerprint gives it. */
  readonly ca: string;
  /** Name of the host that the token was made for. */
  readonly host: string;
  /** The single-use part; never logged. */
  readonly secret: string;
}

const prefix = "cope1.";
const maxLength = 8192;
const hostName = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;
const fields = ["addresses", "ca", "host", "secret"];

/** The line to paste: `cope1.` and the fields as base64url of JSON. */
export function formatEnrolmentToken({ addresses, ca, host, secret }: EnrolmentToken): string {
  return prefix + Buffer.from(JSON.stringify({ addresses, ca, host, secret })).toString("base64url");
}

/** Reads a pasted line, white space around it allowed. Fails with TOKEN_MALFORMED, never repeating the token. */
export function parseEnrolmentToken(text: string): EnrolmentToken {
  const line = text.trim();
  if (line === "") malformed("there is no enrolment token in the input");
  if (line.length > maxLength) malformed(`the enrolment token is longer than ${maxLength} characters`);
  if (/\s/.test(line)) malformed("the enrolment token has white space in it");
  if (!line.startsWith(prefix)) malformed(`the enrolment token does not begin with ${prefix}`);
  const encoded = line.slice(prefix.length);
  const decoded = Buffer.from(encoded, "base64url");
  // Buffer skips what it cannot decode; only a text that comes out again as it went in was whole.
  if (encoded === "" || decoded.toString("base64url") !== encoded)
    malformed("the enrolment token is cut off or damaged");
  return checkFields(parseJson(decoded.toString("utf8")));
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // The parser's message repeats the text, and with it the secret.
    return malformed("the enrolment token is cut off or damaged");
  }
}

function checkFields(value: unknown): EnrolmentToken {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    return malformed("the enrolment token does not hold an object");
  }
  const unknown = Object.keys(value).find((key) => !fields.includes(key));
  if (unknown !== undefined) malformed(`the enrolment token has an unknown field ${JSON.stringify(unknown)}`);
  const { addresses, ca, host, secret }: Partial<Record<string, unknown>> = { ...value };
  if (!Array.isArray(addresses) || addresses.length === 0 || !addresses.every(isAddress)) {
    return malformed("the enrolment token's addresses are not a list like https://host:port");
  }
  if (typeof ca !== "string" || !/^sha256:[0-9a-f]{64}$/.test(ca)) {
    return malformed("the enrolment token's fingerprint is not sha256: and 64 hexadecimal digits");
  }
  if (typeof host !== "string" || !hostName.test(host)) return malformed("the enrolment token names no host");
  if (typeof secret !== "string" || !/^[!-~]{1,256}$/.test(secret)) {
    return malformed("the enrolment token holds no secret");
  }
  return { addresses, ca, host, secret };
}

function isAddress(value: unknown): value is string {
  if (typeof value !== "string" || !URL.canParse(value)) return false;
  const { protocol, hostname, pathname, search, hash, username, password } = new URL(value);
  return protocol === "https:" && hostname !== "" && pathname === "/" && search + hash + username + password === "";
}

function malformed(message: string): never {
  return fail("TOKEN_MALFORMED", message);
}
