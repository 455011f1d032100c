import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";

/** Every file below a folder with a digest of its content. */
export async function portray(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  const digest = async (file: string) =>
    `${file} ${createHash("sha256")
      .update(await readFile(file))
      .digest("hex")}`;
  return await Promise.all(files.toSorted().map(digest));
}
