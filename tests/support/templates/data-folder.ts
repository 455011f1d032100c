import { randomBytes } from "node:crypto";
import { open, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { runProgram } from "../run-program.ts";

const variable = "COPPICE_TEST_TEMPLATES";

/** Has the servers that this process and its children open start from the data folders in `folder`, one for a major. */
export function offerTemplates(folder: string): void {
  process.env[variable] = folder;
}

/** Name of a major's data folder among the templates. */
export function templateName(major: number): string {
  return `pg${major}`;
}

/** The checksum of a control file: CRC-32C, bit by bit, for it is a few hundred bytes long. */
function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  }
  return ~crc >>> 0;
}

/** Gives a data folder that was shut down cleanly a system identifier of its own, as initdb would have. */
async function giveIdentity(dataDir: string): Promise<void> {
  const controlFile = join(dataDir, "global/pg_control");
  const control = await readFile(controlFile);
  const former = control.readBigUInt64LE(0);
  // The checksum stands where the fields before it end, which is elsewhere in every major.
  let end = 128;
  while (crc32c(control.subarray(0, end)) !== control.readUInt32LE(end)) {
    end += 4;
    if (end > 508) throw new Error(`${controlFile} holds no checksum`);
  }
  const own = randomBytes(8).readBigUInt64LE() >> 1n;
  control.writeBigUInt64LE(own, 0);
  control.writeUInt32LE(crc32c(control.subarray(0, end)), end);
  await writeFile(controlFile, control);
  const wal = join(dataDir, "pg_wal");
  for (const name of (await readdir(wal)).filter((each) => /^[0-9A-F]{24}$/.test(each))) {
    await using segment = await open(join(wal, name), "r+");
    // In the header of a segment's first page.
    const offset = 24;
    const { buffer } = await segment.read(Buffer.alloc(8), 0, 8, offset);
    if (buffer.readBigUInt64LE() !== former) throw new Error(`${name} of ${dataDir} is of another server`);
    buffer.writeBigUInt64LE(own);
    await segment.write(buffer, 0, 8, offset);
  }
}

/** Makes `dataDir`, which must not exist, out of the major's template; gives false where none is offered. */
export async function copyTemplate(major: number, dataDir: string): Promise<boolean> {
  const folder = process.env[variable];
  if (!folder) return false;
  const env = { PATH: process.env["PATH"] };
  const args = ["-a", "--reflink=auto", join(folder, templateName(major)), dataDir];
  const copied = await runProgram("cp", args, { env });
  if (copied.code !== 0) throw new Error(`cp ${args.join(" ")}: ${copied.stderr}`);
  await giveIdentity(dataDir);
  return true;
}
