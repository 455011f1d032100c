import type { FoundRecord } from "./check-records.ts";

/** The record that the WAL of a backup ends with: what a primary writes to end a backup, or marks a restore point by. */
export type EndRecord =
  | { readonly is: "backupEnd"; /** Where the backup began. */ readonly startLsn: bigint }
  | { readonly is: "restorePoint"; readonly name: string };

/** Both are of the resource manager of XLOG itself, number 0. */
const rmid = 0;
const backupEnd = { info: 0x50, bytes: 8 };
const restorePoint = { info: 0x70, bytes: 72, nameAt: 8 };
/** Behind the header: that what follows is data, and how many bytes of it. */
const headerBytes = 24;
const shortData = 0xff;

/** Whether a record that was found is that one. */
export function isEndRecord({ head }: FoundRecord, wanted: EndRecord): boolean {
  const form = wanted.is === "backupEnd" ? backupEnd : restorePoint;
  const dataAt = headerBytes + 2;
  if (head.readUInt8(17) !== rmid || (head.readUInt8(16) & 0xf0) !== form.info) return false;
  if (head.length < dataAt + form.bytes) return false;
  if (head.readUInt8(headerBytes) !== shortData || head.readUInt8(headerBytes + 1) !== form.bytes) return false;
  if (wanted.is === "backupEnd") return head.readBigUInt64LE(dataAt) === wanted.startLsn;
  const name = head.subarray(dataAt + restorePoint.nameAt, dataAt + form.bytes);
  const end = name.indexOf(0);
  return name.toString("utf8", 0, end < 0 ? name.length : end) === wanted.name;
}
