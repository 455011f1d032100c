/** A tar's unit: headers are one block, and content is padded to whole ones. */
export const blockBytes = 512;

/** What ends an archive. */
export const endBytes = 2 * blockBytes;

/** A plain file in an archive. */
export interface TarFile {
  /** ASCII, at most 100 bytes. */
  readonly name: string;
  readonly sizeBytes: number;
  readonly mode: number;
  readonly modified: Date;
}

function octal(value: number, digits: number): string {
  return `${value.toString(8).padStart(digits, "0")}\0`;
}

/** The ustar header of a plain file of up to 8 GiB, owned by root: who unpacks it says whose it is to be. */
export function formatFileHeader({ name, sizeBytes, mode, modified }: TarFile): Buffer {
  if (Buffer.byteLength(name) > 100) throw new Error(`${name} is too long for a tar header`);
  const header = Buffer.alloc(blockBytes);
  header.write(name, 0);
  header.write(octal(mode, 7), 100);
  header.write(octal(0, 7), 108);
  header.write(octal(0, 7), 116);
  header.write(octal(sizeBytes, 11), 124);
  header.write(octal(Math.floor(modified.getTime() / 1000), 11), 136);
  header.fill(" ", 148, 156);
  header.write("0", 156);
  header.write("ustar\u000000", 257);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${octal(sum, 6)} `, 148);
  return header;
}

/** How many zeros follow a file's content up to the next block. */
export function paddingOf(sizeBytes: number): number {
  return (blockBytes - (sizeBytes % blockBytes)) % blockBytes;
}
