/** What an SFTP server answered instead of what it was asked for; version 3 has no finer codes. */
export class SftpStatus extends Error {
  override readonly name = "SftpStatus";
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/** Codes of SFTP version 3. */
export const sftpStatus = {
  endOfFile: 1,
  noSuchFile: 2,
  permissionDenied: 3,
  failure: 4,
  badMessage: 5,
  unsupported: 8,
} as const;

/** Whether the server answered with that status. */
export function isSftpStatus(error: unknown, status: keyof typeof sftpStatus): error is SftpStatus {
  return error instanceof SftpStatus && error.status === sftpStatus[status];
}
