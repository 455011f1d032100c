import { writeFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { dirname, join } from "node:path";

/** Makes a folder with a file of one byte for each key below it. */
export async function fillFolder(folder: string, keys: readonly string[]): Promise<void> {
  for (const parent of new Set(keys.map((key) => dirname(join(folder, key))))) await mkdir(parent, { recursive: true });
  for (const key of keys) writeFileSync(join(folder, key), "x");
}
