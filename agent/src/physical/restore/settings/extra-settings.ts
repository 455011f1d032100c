import { stat } from "node:fs/promises";
import { resolve } from "node:path";
import type { ChangedSettings } from "./configuration.ts";
import { quoteSetting, staysQuiet } from "./recovery-settings.ts";
import { readSettings, type ServerPlace } from "../server.ts";

/** Where a server is to be, and was. */
export interface NewPlace {
  /** Port to listen on; 0 is that of its configuration. */
  readonly port: number;
  readonly dataDirectory: string;
  /** Data directory of the source. */
  readonly source: string;
}

/** Settings that a server needs on this host besides its own configuration; so far it lies in `place`. */
export async function findExtraSettings(place: ServerPlace, newPlace: NewPlace): Promise<ChangedSettings> {
  const { port } = newPlace;
  const settings: [string, string][] = port === 0 ? [] : [["port", String(port)]];
  const warnings: string[] = [];
  const [folders, ssl, key, standbys, collects, logs] = await readSettings(place, [
    "unix_socket_directories",
    "ssl",
    "ssl_key_file",
    "synchronous_standby_names",
    "logging_collector",
    "log_directory",
  ]);
  const sockets = folders.split(",").map((each) => each.trim());
  const usable = await Promise.all(sockets.map((folder) => isFolder(folder)));
  if (!usable.every(Boolean) || sockets[0] === "") {
    settings.push(["unix_socket_directories", "/tmp"]);
    warnings.push(`the folder of the server's socket, ${sockets.join(", ") || "none"}, is not here: it is in /tmp now`);
  }
  if (ssl === "on" && !(await stat(resolve(place.data, key)).catch(() => undefined))) {
    settings.push(["ssl", "off"]);
    warnings.push(`TLS is off: its key ${key} is not here`);
  }
  if (collects === "on" && !(await isOwnFolder(logs, newPlace))) {
    settings.push(["log_directory", "log"]);
    warnings.push(
      `log_directory was ${logs}, where the living server may write its own log, and is log in the data directory: ALTER SYSTEM SET log_directory = ${quoteSetting(logs)} and a reload when this one takes its place`,
    );
  }
  warnings.push(...findQuieted(standbys));
  return { settings, warnings };
}

/** What the source did and its copy is kept from. */
function findQuieted(standbys: string): string[] {
  const waited =
    standbys === ""
      ? []
      : [
          `synchronous_standby_names was ${standbys}, and is empty: no standby follows this server; ALTER SYSTEM SET synchronous_standby_names = ${quoteSetting(standbys)} and a reload when some do`,
        ];
  return [...waited, staysQuiet];
}

/** Whether a server's log may go on there: in its directory, or where it went already before that was replaced. */
async function isOwnFolder(folder: string, { dataDirectory, source }: NewPlace): Promise<boolean> {
  const path = resolve(dataDirectory, folder);
  if (path.startsWith(`${resolve(dataDirectory)}/`)) return true;
  return resolve(dataDirectory) === resolve(source) && (await isFolder(path));
}

async function isFolder(path: string): Promise<boolean> {
  return path.startsWith("/") && ((await stat(path).catch(() => undefined))?.isDirectory() ?? false);
}
