import { chown, copyFile, lstat, open, readFile, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { OsUser } from "../../../host/os-user.ts";
import { syncFolder } from "../../../journal/durable-file.ts";
import { formatSettings, quietSettings, type Recovery, recoverySettings, withoutForeign } from "./recovery-settings.ts";

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
