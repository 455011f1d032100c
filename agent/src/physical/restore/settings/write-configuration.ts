import { chown, mkdir, readFile, rm } from "node:fs/promises";
import { dirname, join, posix } from "node:path";
import type { PhysicalContent, StoredConfigFile } from "@coppice/proto/gen/coppice/repository/v1/physical_content";
import type { OsUser } from "../../../host/os-user.ts";
import type { ChainLink } from "../chain.ts";
import { unpackFile, type Unpacking } from "../unpacked/unpack.ts";
import { readIfThere, writeOwned } from "./configuration.ts";
import { rewriteOwnFiles } from "./own-includes.ts";
import { formatSettings } from "./recovery-settings.ts";
import { placeOfInclude, type PlacesOfIncludes, rewriteConfiguration } from "./rewrite-configuration.ts";

async function makeFolders(data: string, folder: string, { uid, gid }: OsUser): Promise<void> {
  const made = await mkdir(folder, { recursive: true, mode: 0o700 });
  if (made === undefined || process.geteuid?.() !== 0) return;
  for (let path = folder; path.length >= made.length && path !== data; path = dirname(path))
    await chown(path, uid, gid);
}

interface Placed {
  readonly file: StoredConfigFile;
  /** Relative to the data directory. */
  readonly place: string;
}

function placeFiles({ configFiles }: PhysicalContent): Placed[] {
  const main = configFiles.find(({ role }) => role === "config_file")?.path;
  const fixed: Readonly<Record<string, string>> = {
    config_file: "postgresql.conf",
    hba_file: "pg_hba.conf",
    ident_file: "pg_ident.conf",
  };
  return configFiles.map((file) => ({ file, place: fixed[file.role] ?? placeOfInclude(file.path, main) }));
}

/** Where what a file of the source's configuration includes lies now; the file is relative to the data directory. */
function placesOf(placed: readonly Placed[], source: string): (file: string) => PlacesOfIncludes {
  const places = new Map<string, string>();
  for (const { file, place } of placed) {
    if (!file.stream) continue;
    places.set(posix.normalize(file.path), place);
    places.set(posix.dirname(posix.normalize(file.path)), posix.dirname(place));
  }
  const origins = new Map(placed.map(({ file, place }) => [place, posix.normalize(file.path)]));
  const own = `${posix.normalize(source)}/`;
  return (file) => ({
    get(included) {
      const path = posix.resolve(posix.dirname(origins.get(file) ?? own + file), included);
      const place = places.get(path) ?? (path.startsWith(own) ? path.slice(own.length) : undefined);
      return place === undefined ? undefined : posix.relative(posix.dirname(file), place);
    },
  });
}

/**
 * Gives a restored data directory a configuration that lies in it: what the server had elsewhere comes from the backup,
 * paths rewritten; where there is none a plain one is written. Gives warnings. Fails as unpackFile.
 */
export async function writeConfiguration(
  link: ChainLink,
  { data, staging, unpacking }: { data: string; staging: string; unpacking: Unpacking },
): Promise<string[]> {
  const { content } = link;
  const { user } = unpacking;
  const warnings: string[] = [];
  const placed = placeFiles(content);
  const placesFor = placesOf(placed, content.dataDirectory);
  for (const { file, place } of placed) {
    if (!file.stream) {
      warnings.push(`${file.path} is not in the backup: ${file.problem}`);
      continue;
    }
    const fetched = join(staging, "config");
    await unpackFile(
      link,
      { stream: file.stream, file: fetched, what: `the configuration file ${file.path}` },
      unpacking,
    );
    const text = await readFile(fetched, "utf8");
    await rm(fetched);
    const target = join(data, place);
    await makeFolders(data, dirname(target), user);
    const isSettings = file.role === "config_file" || file.role === "include";
    await writeOwned(target, isSettings ? rewriteConfiguration(text, placesFor(place)) : text, user);
  }

  const main = join(data, "postgresql.conf");
  if ((await readIfThere(main)) === undefined) {
    warnings.push("the backup holds no postgresql.conf: a plain one was written");
    await writeOwned(main, formatSettings(Object.entries(content.requiredSettings)), user);
  }
  await rewriteOwnFiles(data, { placesFor, user });
  const hba = join(data, "pg_hba.conf");
  if ((await readIfThere(hba)) === undefined) {
    warnings.push("the backup holds no pg_hba.conf: one was written that lets in local users by their own names");
    await writeOwned(hba, "local all all peer\n", user);
  }
  const ident = join(data, "pg_ident.conf");
  if ((await readIfThere(ident)) === undefined) await writeOwned(ident, "", user);
  return warnings;
}
