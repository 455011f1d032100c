import type { SshLocation } from "@coppice/proto/gen/coppice/common/v1/location";
import { fail } from "@coppice/proto/kit/failure";
import { findHostKeys, knownHostName, parseHostKey } from "@coppice/proto/kit/repository/known-hosts";
import { Option } from "commander";
import { shellWord } from "../output/shell-word.ts";
import { repeatableOption } from "./options.ts";
import { readTextFile } from "@coppice/proto/kit/read-text-file";

/** Flags by which the public keys of an SSH server are pinned. */
export interface HostKeyOptions {
  readonly hostKey?: readonly string[];
  readonly knownHosts?: string;
}

/** Those flags, for commands that take them. */
export const hostKeyOptions = () => [
  repeatableOption("--host-key <key>", "SSH: public key of the server, TYPE BASE64 (may be repeated)"),
  new Option("--known-hosts <file>", "SSH: take the server's keys from this file, such as ~/.ssh/known_hosts"),
];

/**
 * The keys that the flags give for a server, each as `TYPE BASE64`; empty without a flag. Fails with INVALID_FIELD for
 * what is no key, and for a file that has none of the server.
 */
export async function readHostKeys(
  { hostKey = [], knownHosts }: HostKeyOptions,
  server: Pick<SshLocation, "host" | "port">,
): Promise<string[]> {
  const given = hostKey.map((text) => {
    return parseHostKey(text) ?? fail("INVALID_FIELD", `${text} is no public host key`, { hint: howToGet(server) });
  });
  const known = knownHosts === undefined ? [] : findHostKeys(await readTextFile(knownHosts, "known hosts"), server);
  if (knownHosts !== undefined && known.length === 0) {
    fail("INVALID_FIELD", `${knownHosts} holds no key of ${knownHostName(server)}`, { hint: howToGet(server) });
  }
  return [...new Set([...given, ...known])];
}

/** How a person gets the keys of a server, and makes sure that they are its own. */
export function howToGet({ host, port }: Pick<SshLocation, "host" | "port">): string {
  const portFlag = port === 0 || port === 22 ? "" : ` -p ${port}`;
  return (
    `run ssh-keyscan${portFlag} ${shellWord(host)}, compare its keys with those on the server itself ` +
    `(ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub), then give them: --host-key "TYPE BASE64" or --known-hosts FILE`
  );
}
