import type { SshLocation } from "@coppice/proto/gen/coppice/common/v1/location";
import type { StorageCredentials } from "../access.ts";
import type { SshPatience } from "../sftp/sftp-session.ts";
import { makeSshLink, type SshLink } from "./ssh-link.ts";

/** The ways to one server, by purpose. */
export interface SshLinks extends Disposable {
  to(purpose: keyof StorageCredentials): SshLink;
}

/** Makes the links to a server; purposes of one and the same key share a connection. */
export function makeSshLinks(
  location: SshLocation,
  credentials: StorageCredentials,
  options: { name: string; patience: SshPatience },
): SshLinks {
  const links = new Map<string, SshLink>();
  return {
    to(purpose) {
      const credential = credentials[purpose];
      const ssh = credential?.kind.case === "ssh" ? credential.kind.value : undefined;
      const identity = credential ? JSON.stringify([ssh?.privateKey, ssh?.passphrase]) : "";
      const link = links.get(identity) ?? makeSshLink(location, credential, options);
      links.set(identity, link);
      return link;
    },
    [Symbol.dispose]() {
      for (const link of links.values()) link[Symbol.dispose]();
    },
  };
}
