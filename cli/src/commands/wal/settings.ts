import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { durationFromMs, durationMs } from "@bufbuild/protobuf/wkt";
import {
  WalMode,
  WalModeSchema,
  type WalSettings,
  WalSettingsSchema,
} from "@coppice/proto/gen/coppice/common/v1/wal_archive";
import type { WalArchive } from "@coppice/proto/gen/coppice/control/v1/cluster";
import { formatDuration } from "@coppice/proto/kit/duration";
import { enumLabel } from "../../output/enum-label.ts";
import type { Terminal } from "../../output/terminal.ts";

/** Ways in which WAL leaves a server, as flags name them. */
export const modes = { stream: WalMode.STREAM, push: WalMode.PUSH };

/** Flags that say how WAL is archived. */
export interface SettingFlags {
  readonly mode?: keyof typeof modes;
  /** In milliseconds. */
  readonly maxAge?: number;
  readonly slot?: string;
  readonly level?: number;
}

/** Whether anything is said of how; else it stays as it is. */
export function saysHow({ mode, maxAge, slot, level }: SettingFlags): boolean {
  return [mode, maxAge, slot, level].some((one) => one !== undefined);
}

/**
 * What is kept of what only the agent knew, where the catalog was made anew, or that nothing is known of it; empty where
 * it was the catalog's to know.
 */
export function describeKept(
  before: WalArchive | undefined,
  { settings }: WalArchive,
  { paint }: Pick<Terminal, "paint">,
): string {
  if (before === undefined || before.repository !== "" || settings === undefined) return "";
  const age = settings.maxAge ? `, max age ${formatDuration(durationMs(settings.maxAge))}` : "";
  const how = `${enumLabel(WalModeSchema, settings.mode)}${age}`;
  const mark = paint("yellow", "!");
  if (before.settings !== undefined) return `${mark} what was not said stays as its agent does it already: ${how}\n`;
  // Somebody archived it: with a catalog that was made anew, or before that was ended.
  if (before.extents.length === 0) return "";
  return `${mark} how its WAL was archived before is not known here, and it begins anew: ${how}; say --mode and --max-age if it was otherwise\n`;
}

/** What is said, over how it is done so far. */
export function settingsOf(
  { mode, maxAge, slot, level }: SettingFlags,
  present: WalSettings = create(WalSettingsSchema),
): MessageInitShape<typeof WalSettingsSchema> {
  return {
    ...present,
    ...(mode === undefined ? {} : { mode: modes[mode] }),
    ...(maxAge === undefined ? {} : { maxAge: durationFromMs(maxAge) }),
    ...(slot === undefined ? {} : { slot }),
    ...(level === undefined ? {} : { compressionLevel: level }),
  };
}
