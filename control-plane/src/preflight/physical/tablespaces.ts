import type { StoredTablespace } from "@coppice/proto/gen/coppice/repository/v1/physical_content";
import { fail } from "@coppice/proto/kit/failure";

/**
 * Where each tablespace of a backup goes, by oid: where it was unless a request names it by its oid or former folder.
 * Errors: INVALID_FIELD for one that the backup lacks, a folder that cannot be one, or one for two tablespaces.
 */
export function tablespacePlaces(
  stored: readonly Pick<StoredTablespace, "oid" | "location">[],
  asked: Readonly<Record<string, string>>,
): Record<number, string> {
  const places: Record<number, string> = Object.fromEntries(stored.map(({ oid, location }) => [oid, location]));
  for (const [name, folder] of Object.entries(asked)) {
    const found = stored.find(({ oid, location }) => String(oid) === name || location === name);
    if (found === undefined) {
      const held = stored.map(({ oid, location }) => `${oid} (${location})`).join(", ");
      return refuse(`the backup has no tablespace ${JSON.stringify(name)}`, held === "" ? "none" : `one of ${held}`);
    }
    if (!/^\/[^\0]*$/.test(folder) || Buffer.byteLength(folder) > 1024) {
      return refuse(`${JSON.stringify(folder)} cannot be the folder of a tablespace`, "an absolute path");
    }
    places[found.oid] = folder;
  }
  const folders = Object.values(places);
  const twice = folders.find((folder, index) => folders.indexOf(folder) !== index);
  if (twice !== undefined) refuse(`two tablespaces would go to ${twice}`, "a folder for each");
  return places;
}

/** Oids of the tablespaces that a request names a folder for. */
export function namedTablespaces(
  stored: readonly Pick<StoredTablespace, "oid" | "location">[],
  asked: Readonly<Record<string, string>>,
): number[] {
  const isNamed = (name: string) => Object.hasOwn(asked, name);
  return stored.flatMap(({ oid, location }) => (isNamed(String(oid)) || isNamed(location) ? [oid] : []));
}

function refuse(message: string, expected: string): never {
  return fail("INVALID_FIELD", message, { fields: [{ field: "restore.physical.tablespaces", expected }] });
}
