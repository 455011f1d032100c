import { resolve } from "node:path";
import { fail } from "@coppice/proto/kit/failure";
import { readSettings, type ServerPlace } from "../server.ts";

/**
 * Makes sure, before anybody starts it, that the server of a restored directory reads its configuration, and by that works
 * in this directory alone: another one may be a living server's. Fails with SERVER_NOT_STARTED.
 */
export async function requireOwnPlace(place: ServerPlace): Promise<void> {
  const names = ["data_directory", "hba_file", "ident_file", "external_pid_file"] as const;
  const [data, hba, ident, pid] = await readSettings(place, names);
  const wanted = [place.data, resolve(place.data, "pg_hba.conf"), resolve(place.data, "pg_ident.conf"), ""];
  for (const [index, value] of [data, hba, ident, pid].entries()) {
    if ((value && resolve(value)) === wanted[index]) continue;
    fail(
      "SERVER_NOT_STARTED",
      `by its configuration the server would have ${names[index]} = ${value}, outside of what is restored`,
      {
        hint: `restore again with --keep-failed, take ${names[index]} out of the file that says so there, and restore once more`,
      },
    );
  }
}
