import { fail } from "@coppice/proto/kit/failure";

/** Name of the object whose presence commits a backup. */
export const manifestName = "manifest.json";
/** Name of the text that says how to restore without Coppice. */
export const recipeName = "RECOVER.txt";

/** The part of a BackupAddress that keys are made of. */
export interface BackupPlace {
  /** cls_… */
  readonly clusterId: string;
  /** Folder of the backup below <cluster id>/backups/. */
  readonly folder: string;
}

const idPattern = /^[0-9A-Za-z_-]{1,128}$/;
const keyPattern = /^[0-9A-Za-z._/-]{1,512}$/;

/** Key prefix of a backup, `/` at its end: cls_…/backups/20261121T013000Z_dump_bkp_…/. Fails with OBJECT_KEY_REFUSED. */
export function backupPrefix({ clusterId, folder }: BackupPlace): string {
  for (const id of [clusterId, folder]) checkId(id);
  return `${clusterId}/backups/${folder}/`;
}

/** Key of an object of a backup; `key` is relative to the backup's folder. Fails with OBJECT_KEY_REFUSED. */
export function objectKey(prefix: string, key: string): string {
  if (!isRelativeKey(key)) fail("OBJECT_KEY_REFUSED", `${JSON.stringify(key)} is no key of an object in a backup`);
  return prefix + key;
}

/** Whether it is a key as backups have them, relative to their folder. */
export function isRelativeKey(key: string): boolean {
  return keyPattern.test(key) && key.split("/").every((name) => name !== "" && name !== "." && name !== "..");
}

/** Key of a backup's manifest. */
export function manifestKey(prefix: string): string {
  return prefix + manifestName;
}

/** Key of cluster.json, which says what the repository knows of a cluster. Fails with OBJECT_KEY_REFUSED. */
export function clusterFileKey(clusterId: string): string {
  checkId(clusterId);
  return `${clusterId}/cluster.json`;
}

/** Key prefix of the objects that checks write, read and delete. */
export const probePrefix = "probe/";

/** Key of the object that shows that a shared folder is the same one on every host. */
export const sharedMarkKey = "shared.json";

/** Key of the probe object of a check, which is an operation or has another id of its own. */
export function probeKey(id: string): string {
  checkId(id);
  return probePrefix + id;
}

/** Name of a numbered object of a stream, relative to the backup's folder: db/16384.dump.zst.0000. */
export function formatStreamObjectName({ stream, index }: { stream: string; index: number }): string {
  return `${stream}.${String(index).padStart(4, "0")}`;
}

/** Reads such a name; undefined for any other. */
export function parseStreamObjectName(name: string): { stream: string; index: number } | undefined {
  const [, stream, digits] = /^(.+)\.(\d{4}|[1-9]\d{4,8})$/.exec(name) ?? [];
  return stream === undefined || digits === undefined ? undefined : { stream, index: Number(digits) };
}

/** The part of a WAL archive's address that keys are made of. */
export interface WalPlace {
  /** cls_… */
  readonly clusterId: string;
  /** The server's system identifier, decimal. */
  readonly systemIdentifier: string;
}

const systemPattern = /^\d{1,20}$/;
/** Segments, also partial ones with the position where they end, history files of timelines and of backups. */
const walNamePattern = /^(?:[0-9A-F]{8}\.history|[0-9A-F]{24}(?:\.partial(?:\.[0-9A-F]{16})?|\.[0-9A-F]{8}\.backup)?)$/;

/** Key prefix of the WAL of one server, `/` at its end: cls_…/wal/7312…/. Fails with OBJECT_KEY_REFUSED. */
export function walPrefix({ clusterId, systemIdentifier }: WalPlace): string {
  checkId(clusterId);
  if (!systemPattern.test(systemIdentifier))
    fail("OBJECT_KEY_REFUSED", `${JSON.stringify(systemIdentifier)} is no system identifier`);
  return `${clusterId}/wal/${systemIdentifier}/`;
}

/**
 * Key of a file of a WAL archive by the name that PostgreSQL knows it by, or `partialName` gives: segments in folders of
 * their timeline and the first 16 digits, histories in one of their own. Fails with OBJECT_KEY_REFUSED for other names.
 */
export function walKey(place: WalPlace, name: string): string {
  if (!isWalName(name)) fail("OBJECT_KEY_REFUSED", `${JSON.stringify(name)} is no file of a WAL archive`);
  return walPrefix(place) + walFolder(name) + name;
}

/** Key prefix of the segments of one timeline, `/` at its end. */
export function walTimelinePrefix(place: WalPlace, timeline: number): string {
  return `${walPrefix(place)}${timeline.toString(16).toUpperCase().padStart(8, "0")}/`;
}

/** Key prefix of the histories of timelines and backups, `/` at its end. */
export function walHistoryPrefix(place: WalPlace): string {
  return `${walPrefix(place)}history/`;
}

/** A time of a server's clock and the end of its WAL then; times are microseconds since 1970. */
export interface WalAnchor {
  readonly timeline: number;
  readonly lsn: bigint;
  readonly timeUs: bigint;
}

/** Key prefix of the anchors of one server, `/` at its end. */
export function walAnchorPrefix(place: WalPlace): string {
  return `${walPrefix(place)}anchors/`;
}

/** Key of an anchor: all that it says is in its name, so that a listing is enough. */
export function walAnchorKey(place: WalPlace, { timeline, lsn, timeUs }: WalAnchor): string {
  const digits = (value: bigint | number, count: number) => value.toString(16).toUpperCase().padStart(count, "0");
  return `${walAnchorPrefix(place)}${digits(timeline, 8)}/${digits(lsn, 16)}.${digits(timeUs, 16)}`;
}

/** What the key of an anchor says; undefined for any other. */
export function parseWalAnchor(key: string): WalAnchor | undefined {
  const [, timeline, lsn, time] =
    /^[^/]+\/wal\/\d{1,20}\/anchors\/([0-9A-F]{8})\/([0-9A-F]{16})\.([0-9A-F]{16})$/.exec(key) ?? [];
  if (timeline === undefined || lsn === undefined || time === undefined) return undefined;
  return { timeline: Number.parseInt(timeline, 16), lsn: BigInt(`0x${lsn}`), timeUs: BigInt(`0x${time}`) };
}

/**
 * Key prefix of the claims on a name of a WAL archive: objects that are named for the digest of the plain bytes which are,
 * or are to be, stored under it, and hold nothing but the links of a segment. Fails with OBJECT_KEY_REFUSED.
 */
export function walClaimPrefix(place: WalPlace, name: string): string {
  return `${walPrefix(place)}digests/${walKey(place, name).slice(walPrefix(place).length)}.sha256-`;
}

/** Key prefix of the grants by which agents wrote WAL of one server, `/` at its end. */
export function walGrantPrefix(place: WalPlace): string {
  return `${walPrefix(place)}grants/`;
}

/** Key of a grant: an object without content that is named for its number. */
export function walGrantKey(place: WalPlace, number: bigint): string {
  return walGrantPrefix(place) + number.toString(16).toUpperCase().padStart(16, "0");
}

/** The number of a grant by its key; undefined for any other. */
export function parseWalGrant(key: string): bigint | undefined {
  const [, digits] = /^[^/]+\/wal\/\d{1,20}\/grants\/([0-9A-F]{16})$/.exec(key) ?? [];
  return digits === undefined ? undefined : BigInt(`0x${digits}`);
}

/** Whether a WAL archive may hold a file of that name. */
export function isWalName(name: string): boolean {
  return walNamePattern.test(name);
}

function walFolder(name: string): string {
  return /\.(?:history|backup)$/.test(name) ? "history/" : `${name.slice(0, 8)}/${name.slice(0, 16)}/`;
}

/** What a key of a repository belongs to. */
export type ObjectOwner =
  | { readonly is: "clusterFile"; readonly clusterId: string }
  /** `name` is the key below the backup's folder. */
  | { readonly is: "backup"; readonly clusterId: string; readonly folder: string; readonly name: string }
  /** `name` is the file's in the WAL archive. */
  | { readonly is: "wal"; readonly clusterId: string; readonly systemIdentifier: string; readonly name: string }
  /** All that it says is in its key. */
  | { readonly is: "walAnchor"; readonly clusterId: string; readonly systemIdentifier: string }
  /** The same of a grant to write WAL. */
  | { readonly is: "walGrant"; readonly clusterId: string; readonly systemIdentifier: string }
  /** A claim on a name of the WAL archive; see walClaimPrefix. */
  | { readonly is: "walClaim"; readonly clusterId: string; readonly systemIdentifier: string; readonly name: string }
  | { readonly is: "probe" }
  /** Made by somebody else. */
  | { readonly is: "foreign" };

/** Says what a key belongs to; what no Coppice makes is foreign. */
export function parseObjectOwner(key: string): ObjectOwner {
  if (key.startsWith(probePrefix) || key === sharedMarkKey) return { is: "probe" };
  const [, clusterId = "", rest = ""] = /^(cls_[0-9a-z]+)\/(.+)$/s.exec(key) ?? [];
  if (rest === "cluster.json") return { is: "clusterFile", clusterId };
  const [, systemIdentifier = "", inFolder = "", file = ""] = /^wal\/(\d{1,20})\/(.+\/)([^/]+)$/.exec(rest) ?? [];
  if (isWalName(file) && inFolder === walFolder(file)) return { is: "wal", clusterId, systemIdentifier, name: file };
  if (parseWalAnchor(key)) return { is: "walAnchor", clusterId, systemIdentifier };
  if (parseWalGrant(key) !== undefined) return { is: "walGrant", clusterId, systemIdentifier };
  const [, claimed = ""] = /^(.+)\.sha256-[0-9a-f]{64}$/.exec(file) ?? [];
  if (isWalName(claimed) && inFolder === `digests/${walFolder(claimed)}`)
    return { is: "walClaim", clusterId, systemIdentifier, name: claimed };
  const [, folder = "", name = ""] = /^backups\/(\d{8}T\d{6}Z_[a-z]+_bkp_[0-9a-z]+)\/(.+)$/s.exec(rest) ?? [];
  return isRelativeKey(name) ? { is: "backup", clusterId, folder, name } : { is: "foreign" };
}

/** When the work on the backup of a folder began, as its name says; undefined for any other name. */
export function parseFolderTime(folder: string): Date | undefined {
  const [, ...parts] = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z_/.exec(folder) ?? [];
  if (parts.length === 0) return undefined;
  const [year = 0, month = 1, day, hour, minute, second] = parts.map(Number);
  return new Date(Date.UTC(year, month - 1, day, hour, minute, second));
}

function checkId(id: string): void {
  if (!idPattern.test(id)) fail("OBJECT_KEY_REFUSED", `${JSON.stringify(id)} cannot be a part of a key`);
}
