import { createSecretKey, type KeyObject, randomBytes } from "node:crypto";
import { link, open, readFile, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { fail } from "@coppice/proto/kit/failure";

/**
 * The key that all secrets of the catalog are sealed under: as configured (32 bytes in base64), or out of
 * `master.key` in the data folder, which is made on first use and must be readable by its owner alone.
 */
export async function openMasterKey(options: {
  configured: string | undefined;
  dataDirectory: string;
}): Promise<KeyObject> {
  const text = options.configured ?? (await readOrMake(join(options.dataDirectory, "master.key")));
  const bytes = Buffer.from(text.trim(), "base64");
  if (bytes.length !== 32) fail("CONFIGURATION_INVALID", `the master key has ${bytes.length} bytes, 32 are expected`);
  return createSecretKey(bytes);
}

async function readOrMake(file: string): Promise<string> {
  try {
    return await readPrivate(file);
  } catch (error) {
    if (!hasCode(error, "ENOENT")) throw error;
  }
  // The file appears whole, or not at all, whoever else makes it at the same time.
  const half = `${file}.${randomBytes(6).toString("hex")}`;
  try {
    const handle = await open(half, "wx", 0o600);
    try {
      await handle.writeFile(`${randomBytes(32).toString("base64")}\n`);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await link(half, file);
  } catch (error) {
    if (!hasCode(error, "EEXIST")) throw error;
  } finally {
    await rm(half, { force: true });
  }
  return readPrivate(file);
}

async function readPrivate(file: string): Promise<string> {
  const { mode } = await stat(file);
  if ((mode & 0o077) !== 0) {
    fail("CONFIGURATION_INVALID", `${file} can be read by others, its mode is ${(mode & 0o777).toString(8)}`, {
      hint: `chmod 600 ${file}`,
    });
  }
  return readFile(file, "utf8");
}

function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && "code" in error && error.code === code;
}
