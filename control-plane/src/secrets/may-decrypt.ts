import { fail } from "@coppice/proto/kit/failure";
import type { HostRow } from "../catalog/host.ts";
import type { RepositoryRow } from "../catalog/repository.ts";

/** Whether a host is trusted with identities: by its label `may-decrypt=true`, and by no other value of it. */
export function mayDecrypt({ labels }: Pick<HostRow, "labels">): boolean {
  return labels["may-decrypt"] === "true";
}

/**
 * Refuses to have something of an encrypted repository decrypted where it may not be, or without an identity; all else
 * passes; `instead` is what else can be done. Errors: HOST_MAY_NOT_DECRYPT, IDENTITY_MISSING.
 */
export function requireMayDecrypt(
  repository: Pick<RepositoryRow, "name" | "encryption" | "identitySecretId">,
  host: Pick<HostRow, "name" | "labels">,
  instead = "",
): void {
  if (repository.encryption === null) return;
  const or = instead === "" ? "" : `; or ${instead}`;
  requireTrusted(host, `what repository ${repository.name} holds`, or);
  if (repository.identitySecretId !== null) return;
  fail("IDENTITY_MISSING", `the identity of repository ${repository.name} is kept outside of Coppice`, {
    hint: `restore on the host itself: coppice-agent restore --repo … --identity FILE${or}`,
  });
}

/** Refuses to have something, as a message calls it, decrypted on a host that is not trusted. Errors: HOST_MAY_NOT_DECRYPT. */
export function requireTrusted(host: Pick<HostRow, "name" | "labels">, what: string, or = ""): void {
  if (mayDecrypt(host)) return;
  fail("HOST_MAY_NOT_DECRYPT", `host ${host.name} may not decrypt ${what}`, {
    hint: `allow it: coppice host update ${host.name} --label may-decrypt=true${or}`,
  });
}
