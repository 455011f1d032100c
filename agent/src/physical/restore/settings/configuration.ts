import { chown, copyFile, lstat, mkdir, open, readFile, rename, rm } from "node:fs/promises";
import { dirname, join, posix } from "node:path";
import type { PhysicalContent, StoredConfigFile } from "@coppice/proto/gen/coppice/repository/v1/physical_content";
import type { OsUser } from "../../../host/os-user.ts";
import { syncFolder } from "../../../journal/durable-file.ts";
import type { ChainLink } from "../chain.ts";
import { formatSettings, quietSettings, type Recovery, recoverySettings, withoutForeign } from "./recovery-settings.ts";
import { placeOfInclude, rewriteConfiguration } from "./rewrite-configuration.ts";
import { unpackFile, type Unpacking } from "../unpacked/unpack.ts";

const autoConf = "postgresql.auto.conf";
/** What the source had, for people to compare; nothing reads it. */
const savedAutoConf = `${autoConf}.before-restore`;

/** The text of a file, undefined where there is none. */
export async function readIfThere(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, "utf8");
  } catch (error) {
    if (error instanceof Error && "code" in error && (error.code === "ENOENT" || error.code === "ENOTDIR"))
      return undefined;
    throw error;
  }
}

/** Writes a file (0600) of the server's user, whole or not at all, also where the power is cut right after. */
export async function writeOwned(file: string, text: string, { uid, gid }: OsUser): Promise<void> {
  const temporary = `${file}.coppice-new`;
  try {
    {
      await rm(temporary, { force: true });
      await using handle = await open(temporary, "wx", 0o600);
      await handle.writeFile(text);
      if (process.geteuid?.() === 0) await handle.chown(uid, gid);
      await handle.sync();
    }
    await rename(temporary, file);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  await syncFolder(dirname(file));
}

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

function placesOf(placed: readonly Placed[]): Map<string, string> {
  const places = new Map<string, string>();
  for (const { file, place } of placed) {
    if (!file.stream) continue;
    places.set(posix.normalize(file.path), place);
    places.set(posix.dirname(posix.normalize(file.path)), posix.dirname(place));
  }
  return places;
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
  const places = placesOf(placed);
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
    await writeOwned(target, isSettings ? rewriteConfiguration(text, places) : text, user);
  }

  const main = join(data, "postgresql.conf");
  const present = await readIfThere(main);
  if (present === undefined) {
    warnings.push("the backup holds no postgresql.conf: a plain one was written");
    await writeOwned(main, formatSettings(Object.entries(content.requiredSettings)), user);
  } else {
    const rewritten = rewriteConfiguration(present, places);
    if (rewritten !== present) await writeOwned(main, rewritten, user);
  }
  const hba = join(data, "pg_hba.conf");
  if ((await readIfThere(hba)) === undefined) {
    warnings.push("the backup holds no pg_hba.conf: one was written that lets in local users by their own names");
    await writeOwned(hba, "local all all peer\n", user);
  }
  const ident = join(data, "pg_ident.conf");
  if ((await readIfThere(ident)) === undefined) await writeOwned(ident, "", user);
  return warnings;
}

/** Settings that are added for the server's start, such as its port. */
export type ExtraSettings = readonly (readonly [name: string, value: string])[];

/** Such settings, and what is to be said of them. */
export interface ChangedSettings {
  readonly settings: ExtraSettings;
  readonly warnings: readonly string[];
}

/** Writes the settings by which the server recovers, and the signal that it has to; the source's are saved beside. */
export async function writeRecovery(
  data: string,
  { recovery, extra, user }: { recovery: Recovery; extra: ExtraSettings; user: OsUser },
): Promise<void> {
  const file = join(data, autoConf);
  const saved = join(data, savedAutoConf);
  const text = (await readIfThere(file)) ?? "";
  if ((await lstat(file).catch(() => undefined)) !== undefined) {
    await copyFile(file, saved);
    if (process.geteuid?.() === 0) await chown(saved, user.uid, user.gid);
  }
  const settings = [...quietSettings, ...extra, ...recoverySettings(recovery)];
  await writeOwned(file, `${withoutForeign(text)}${formatSettings(settings)}`, user);
  await rm(join(data, "standby.signal"), { force: true });
  await writeOwned(join(data, "recovery.signal"), "", user);
}

/** Undoes writeRecovery, where that was done: the settings of the source are what it begins with again. */
export async function restoreAutoConf(data: string): Promise<void> {
  if ((await readIfThere(join(data, savedAutoConf))) === undefined) return;
  await rename(join(data, savedAutoConf), join(data, autoConf));
  await syncFolder(data);
}

/** Adds settings that win over all before. */
export async function appendSettings(data: string, settings: ExtraSettings, user: OsUser): Promise<void> {
  const file = join(data, autoConf);
  await writeOwned(file, `${(await readIfThere(file)) ?? ""}${formatSettings(settings)}`, user);
}

/** Takes the settings of recovery out again, once it is over; the server stays quiet until somebody tells it otherwise. */
export async function writeRecovered(
  data: string,
  { extra, user }: { extra: ExtraSettings; user: OsUser },
): Promise<void> {
  const own = (await readIfThere(join(data, savedAutoConf))) ?? "";
  await writeOwned(join(data, autoConf), `${withoutForeign(own)}${formatSettings([...quietSettings, ...extra])}`, user);
}
