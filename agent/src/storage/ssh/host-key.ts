import { createHash } from "node:crypto";
import { fail, Failure } from "@coppice/proto/kit/failure";
import type { ServerHostKeyAlgorithm } from "ssh2";

/** The public keys of a server, one of which it has to prove. */
export interface PinnedHostKeys {
  readonly blobs: readonly Buffer[];
  /** All that may be negotiated: the server cannot choose a key of a type that is not pinned. */
  readonly algorithms: readonly ServerHostKeyAlgorithm[];
}

// An RSA key signs with SHA-2 only: SHA-1 is forged for money.
const algorithmsByType: Readonly<Record<string, readonly ServerHostKeyAlgorithm[]>> = {
  "ecdsa-sha2-nistp256": ["ecdsa-sha2-nistp256"],
  "ecdsa-sha2-nistp384": ["ecdsa-sha2-nistp384"],
  "ecdsa-sha2-nistp521": ["ecdsa-sha2-nistp521"],
  "ssh-ed25519": ["ssh-ed25519"],
  "ssh-rsa": ["rsa-sha2-512", "rsa-sha2-256"],
};

/** Reads keys of the form `<type> <base64>`. Fails with HOST_KEY_UNTRUSTED for one that is none or of an unknown type. */
export function parseHostKeys(server: string, keys: readonly string[]): PinnedHostKeys {
  const known = Object.keys(algorithmsByType).join(", ");
  const parsed = keys.map((key) => {
    const [type = "", base64 = ""] = key.split(" ");
    const blob = Buffer.from(base64, "base64");
    const algorithms = Object.hasOwn(algorithmsByType, type) ? algorithmsByType[type] : undefined;
    if (!algorithms) {
      fail("HOST_KEY_UNTRUSTED", `${server}: a host key of type ${type} cannot be checked`, {
        hint: `give a host key of one of the types ${known}`,
      });
    }
    if (keyType(blob) !== type) fail("HOST_KEY_UNTRUSTED", `${server}: the pinned host key is no key of type ${type}`);
    return { blob, algorithms };
  });
  if (parsed.length === 0) fail("HOST_KEY_UNTRUSTED", `${server}: no host key is pinned`);
  return {
    blobs: parsed.map(({ blob }) => blob),
    algorithms: [...new Set(parsed.flatMap(({ algorithms }) => algorithms))],
  };
}

/** Whether a key is one of the pinned ones. */
export function isPinned({ blobs }: PinnedHostKeys, key: Buffer): boolean {
  return blobs.some((blob) => blob.equals(key));
}

/** The failure for a server with another key, or, where `seen` is undefined, with none of the pinned types. */
export function hostKeyFailure(server: string, { blobs }: PinnedHostKeys, seen: Buffer | undefined): Failure {
  const pinned = blobs.map((blob) => `${keyType(blob)} ${fingerprint(blob)}`).join(", ");
  const shown = seen ? `${keyType(seen)} ${fingerprint(seen)}` : "no key of that type";
  return new Failure("HOST_KEY_UNTRUSTED", `${server} shows ${shown}, pinned is ${pinned}`, {
    metadata: { pinned, ...(seen ? { seen: shown } : {}) },
  });
}

/** As `ssh-keygen -l` prints it. */
export function fingerprint(blob: Buffer): string {
  return `SHA256:${createHash("sha256").update(blob).digest("base64").replace(/=+$/, "")}`;
}

/** A key begins with its type as a string with its length. */
function keyType(blob: Buffer): string {
  if (blob.length < 4) return "";
  return blob.toString("latin1", 4, 4 + blob.readUInt32BE(0));
}
