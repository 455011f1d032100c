import { parseObjectOwner } from "../layout.ts";
import type { ListedObject, Storage } from "../../storage/storage.ts";

/** A folder of a backup, as a listing shows it. */
export interface SurveyedBackup {
  /** cls_… */
  readonly clusterId: string;
  /** Folder below <cluster id>/backups/. */
  readonly folder: string;
  /** Whether its manifest is there: it is a backup then, and leavings otherwise. */
  readonly isCommitted: boolean;
  /** Its objects, marks left out. */
  readonly objects: readonly ListedObject[];
  /** Names of its marks. */
  readonly marks: readonly string[];
}

/** What lies in a repository. */
export interface Survey {
  /** Clusters that have a cluster.json. */
  readonly clusterIds: readonly string[];
  readonly backups: readonly SurveyedBackup[];
  /** How many objects no Coppice has made, and some of their keys. */
  readonly foreign: { readonly objects: number; readonly keys: readonly string[] };
  /** Folders directly in it that hold clusters: repositories by themselves. */
  readonly within: readonly string[];
}

const shownForeignKeys = 20;

/** Lists a repository once and sorts what lies there by what it belongs to; nothing is read or changed. */
export async function surveyRepository(storage: Storage, signal: AbortSignal): Promise<Survey> {
  const clusterIds: string[] = [];
  const backups = new Map<string, Mutable<SurveyedBackup> & { objects: ListedObject[]; marks: string[] }>();
  const within = new Set<string>();
  const foreign = { objects: 0, keys: [] as string[] };
  for await (const object of storage.list("", signal)) {
    const owner = parseObjectOwner(object.key);
    switch (owner.is) {
      case "clusterFile":
        clusterIds.push(owner.clusterId);
        break;
      case "backup": {
        const { clusterId, folder, name } = owner;
        const id = `${clusterId}/${folder}`;
        const backup = backups.get(id) ?? { clusterId, folder, isCommitted: false, objects: [], marks: [] };
        backups.set(id, backup);
        if (name.startsWith("marks/")) backup.marks.push(name.slice("marks/".length));
        else backup.objects.push(object);
        if (name === "manifest.json") backup.isCommitted = true;
        break;
      }
      case "probe":
      case "wal":
      case "walAnchor":
      case "walClaim":
      case "walGrant":
        // What is stored of WAL is committed by itself: nothing of it is ever leavings.
        break;
      case "foreign": {
        const [folder = "", ...rest] = object.key.split("/");
        if (parseObjectOwner(rest.join("/")).is === "clusterFile") within.add(folder);
        foreign.objects++;
        if (foreign.keys.length < shownForeignKeys) foreign.keys.push(object.key);
        break;
      }
    }
  }
  const byFolder = (one: SurveyedBackup, two: SurveyedBackup) => (one.folder < two.folder ? -1 : 1);
  return {
    clusterIds: clusterIds.toSorted(),
    backups: [...backups.values()].toSorted(byFolder),
    foreign,
    within: [...within].toSorted(),
  };
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };
