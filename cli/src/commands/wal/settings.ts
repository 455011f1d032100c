import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { WalMode, type WalSettings, WalSettingsSchema } from "@coppice/proto/gen/coppice/common/v1/wal_archive";
import type { Api } from "../../client/api.ts";

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

/** How WAL of the cluster is archived so far; undefined where it is not. */
export async function presentSettings(api: Api, cluster: string): Promise<WalSettings | undefined> {
  return (await api.clusters.getWalArchive({ cluster })).settings;
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
