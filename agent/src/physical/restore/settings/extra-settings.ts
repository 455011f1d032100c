import { stat } from "node:fs/promises";
import { resolve } from "node:path";
import type { ChangedSettings } from "./configuration.ts";
import { quoteSetting, staysQuiet } from "./recovery-settings.ts";
import { readSettings, type ServerPlace } from "../server.ts";

/** Settings that a server needs on this host besides its own configuration. */
export async function findExtraSettings(place: ServerPlace, port: number): Promise<ChangedSettings> {
  const settings: [string, string][] = port === 0 ? [] : [["port", String(port)]];
  const warnings: string[] = [];
  const [folders, ssl, key, standbys] = await readSettings(place, [
    "unix_socket_directories",
    "ssl",
    "ssl_key_file",
    "synchronous_standby_names",
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

async function isFolder(path: string): Promise<boolean> {
  return path.startsWith("/") && ((await stat(path).catch(() => undefined))?.isDirectory() ?? false);
}
