import { createHmac } from "node:crypto";

/** A server of SSH; port 0 is 22. */
export interface SshServer {
  readonly host: string;
  readonly port: number;
}

/** Reads a public host key, also behind a host name as ssh-keyscan prints it; gives `TYPE BASE64`, or undefined. */
export function parseHostKey(text: string): string | undefined {
  const words = text.trim().split(/\s+/);
  const at = words.findIndex((word) => /^(ssh|ecdsa-sha2|sk-ssh|sk-ecdsa-sha2)-[a-z0-9@.-]+$/.test(word));
  const [type, base64 = ""] = at < 0 || at > 1 ? [] : words.slice(at, at + 2);
  if (type === undefined || !/^[A-Za-z0-9+/]+={0,2}$/.test(base64)) return undefined;
  // The key names its own type, behind the length of the name.
  const bytes = Buffer.from(base64, "base64");
  const length = bytes.length < 4 ? 0 : bytes.readUInt32BE(0);
  return bytes.subarray(4, 4 + length).toString("latin1") === type ? `${type} ${base64}` : undefined;
}

/** A server's name as known_hosts spells it: `vault.example.com`, `[vault.example.com]:2222`. */
export function knownHostName({ host, port }: SshServer): string {
  const name = host.toLowerCase();
  return port === 0 || port === 22 ? name : `[${name}]:${port}`;
}

/** The keys, each `TYPE BASE64`, that a known_hosts file has of a server; what it revokes is left out. */
export function findHostKeys(text: string, server: SshServer): string[] {
  const name = knownHostName(server);
  const found: string[] = [];
  const revoked = new Set<string>();
  for (const line of text.split(/\r?\n/)) {
    const words = line.trim().split(/\s+/);
    const marker = words[0]?.startsWith("@") ? words.shift() : undefined;
    const [patterns = "", ...rest] = words;
    if (patterns === "" || patterns.startsWith("#") || !namesServer(patterns, name)) continue;
    const key = parseHostKey(rest.join(" "));
    if (key === undefined) continue;
    if (marker === "@revoked") revoked.add(key);
    // A certificate authority is no key of the server.
    else if (marker === undefined) found.push(key);
  }
  return found.filter((key) => !revoked.has(key));
}

function namesServer(patterns: string, name: string): boolean {
  const [, salt, hash] = /^\|1\|([^|]+)\|(.+)$/.exec(patterns) ?? [];
  if (salt !== undefined && hash !== undefined) {
    return createHmac("sha1", Buffer.from(salt, "base64")).update(name).digest("base64") === hash;
  }
  const all = patterns.toLowerCase().split(",");
  const isExcluded = all.some((pattern) => pattern.startsWith("!") && fits(pattern.slice(1), name));
  return !isExcluded && all.some((pattern) => fits(pattern, name));
}

function fits(pattern: string, name: string): boolean {
  const source = pattern
    .replace(/[.+^${}()|[\]\\]/g, "\\$&")
    .replace(/\*/g, ".*")
    .replace(/\?/g, ".");
  return new RegExp(`^${source}$`).test(name);
}
