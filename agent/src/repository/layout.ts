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

/** What a key of a repository belongs to. */
export type ObjectOwner =
  | { readonly is: "clusterFile"; readonly clusterId: string }
  /** `name` is the key below the backup's folder. */
  | { readonly is: "backup"; readonly clusterId: string; readonly folder: string; readonly name: string }
  | { readonly is: "probe" }
  /** Made by somebody else. */
  | { readonly is: "foreign" };

/** Says what a key belongs to; what no Coppice makes is foreign. */
export function parseObjectOwner(key: string): ObjectOwner {
  if (key.startsWith(probePrefix) || key === sharedMarkKey) return { is: "probe" };
  const [, clusterId = "", rest = ""] = /^(cls_[0-9a-z]+)\/(.+)$/s.exec(key) ?? [];
  if (rest === "cluster.json") return { is: "clusterFile", clusterId };
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
