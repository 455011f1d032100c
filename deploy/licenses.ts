import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";

interface PackageManifest {
  name: string;
  version: string;
  license?: string;
}

/** The folder of the npm package that a source file belongs to, from the innermost node_modules on. */
function packageFolder(path: string): string | undefined {
  return /^(.*node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1];
}

/**
 * Gives the licences of every npm package that the given files (paths from `root`) come from, as one text: a heading
 * with name, version and licence, then the package's own licence files.
 */
export async function collectLicenses(root: string, files: Iterable<string>): Promise<string> {
  const folders = new Set([...files].map(packageFolder).filter((folder) => folder !== undefined));
  const texts: string[] = [];
  for (const folder of folders) {
    const place = join(root, folder);
    const { name, version, license } = JSON.parse(
      await readFile(join(place, "package.json"), "utf8"),
    ) as PackageManifest;
    const names = (await readdir(place)).filter((file) => /^(licen[cs]e|notice|copying)/i.test(file)).toSorted();
    const own = await Promise.all(names.map((file) => readFile(join(place, file), "utf8")));
    texts.push([`${name} ${version}: ${license ?? "see below"}`, ...own].map((text) => text.trim()).join("\n\n"));
  }
  return `${[...new Set(texts)].toSorted().join(`\n\n${"-".repeat(80)}\n\n`)}\n`;
}
