/** Folder of a backup in a repository: `<UTC stamp>_<kind>_<id>`. */
export function formatBackupFolder(time: Date, kind: "dump" | "full" | "incremental", backupId: string): string {
  const stamp = time.toISOString().replace(/[-:]|\.\d+/g, "");
  return `${stamp}_${kind}_${backupId}`;
}
