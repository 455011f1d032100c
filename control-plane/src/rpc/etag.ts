import { fail } from "@coppice/proto/kit/failure";

/** The etag of a row's version. */
export function formatEtag(version: number): string {
  return `v${version}`;
}

/** Refuses a change of something that has changed since it was read; an empty etag asks for no check. */
export function requireEtag(given: string, row: { name: string; version: number }): void {
  const current = formatEtag(row.version);
  if (given !== "" && given !== current) {
    fail(
      "ETAG_MISMATCH",
      `${row.name} has changed since it was read: its etag is ${current}, not ${given.slice(0, 64)}`,
    );
  }
}
