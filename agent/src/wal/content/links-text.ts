import { formatLsn, parseLsn } from "@coppice/proto/kit/wal/lsn";
import type { RecordLinks } from "./record-links.ts";

/** Links as a text that is kept beside a segment: two positions, `-` where there is none. */
export function formatLinks({ beforeLsn, lastLsn }: RecordLinks): string {
  return `${formatLink(beforeLsn)} ${formatLink(lastLsn)}`;
}

/** Reads such a text; undefined for any other, also none. */
export function parseLinks(text: string): RecordLinks | undefined {
  const [, before, last] = form.exec(text) ?? [];
  if (before === undefined || last === undefined) return undefined;
  return { beforeLsn: parseLink(before), lastLsn: parseLink(last) };
}

const lsn = String.raw`[0-9A-F]{1,8}/[0-9A-F]{1,8}|-`;
const form = new RegExp(`^(${lsn}) (${lsn})$`);
const formatLink = (link: bigint | undefined) => (link === undefined ? "-" : formatLsn(link));
const parseLink = (text: string) => (text === "-" ? undefined : parseLsn(text));
