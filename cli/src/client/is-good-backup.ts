import { type Backup, CopyState } from "@coppice/proto/gen/coppice/control/v1/backup";

/** Whether all that was asked for is in a backup, and stored at least once without damage that is known. */
export function isGoodBackup({ complete, copies }: Backup): boolean {
  return complete && copies.some(({ state }) => state === CopyState.STORED);
}
