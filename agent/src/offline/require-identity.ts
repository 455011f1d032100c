import { matchIdentities } from "../pipeline/age-identity.ts";
import type { FoundBackup } from "./catalog.ts";

/**
 * Sees that the identities open some of the backups, where none of those can be used without: before anything is fetched,
 * and in words that say which are wanted. Fails with IDENTITY_MISSING or IDENTITY_WRONG.
 */
export function requireIdentity(backups: readonly FoundBackup[], identities: string | undefined): void {
  const recipients = backups.map(({ manifest }) => manifest.recipients);
  if (recipients.every((each) => each.length > 0)) matchIdentities([...new Set(recipients.flat())], identities);
}
