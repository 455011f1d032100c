import { type Lab, subject } from "../lab.ts";

/** What a bench asks of a backup in the catalog. */
export interface ListedBackup {
  readonly id: string;
  readonly kind: string;
  readonly copies: readonly { readonly folder: string }[];
  readonly physical: { readonly fullReason?: string };
}

/** Arguments of the CLI that take a backup which can be restored alone, by as many threads as the peers are given. */
export function takeArguments(kind: "full" | "incremental"): readonly string[] {
  return ["backup", "create", subject, "--kind", kind, "--wal", "embedded", "--compression-workers", "2"];
}

/** The backups of the lab's server, newest first. */
export async function listBackups({ cop }: Lab): Promise<readonly ListedBackup[]> {
  const { backups = [] } = await cop.call<{ backups?: ListedBackup[] }>("BackupService/ListBackups", {
    cluster: subject,
  });
  return backups;
}

/** Removes all of them, what builds on others first, so that every run finds the same. */
export async function deleteBackups(lab: Lab): Promise<void> {
  for (const { id } of await listBackups(lab)) await lab.cop.must(["backup", "delete", id, "--last", "--yes"]);
}
