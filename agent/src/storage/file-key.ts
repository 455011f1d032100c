import { fail } from "@coppice/proto/kit/failure";
import { parseObjectKey } from "./object-key.ts";
import { parseTemporaryName } from "./temporary-name.ts";

/** The names of a key that is to be a file: folders, then the file's own. Fails with OBJECT_KEY_REFUSED. */
export function parseFileKey(key: string): string[] {
  const names = parseObjectKey(key);
  if (names.some(parseTemporaryName)) {
    fail("OBJECT_KEY_REFUSED", `key ${JSON.stringify(key)} is a name of files that are still being written`);
  }
  return names;
}
