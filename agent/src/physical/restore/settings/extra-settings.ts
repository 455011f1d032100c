import { stat } from "node:fs/promises";
import { resolve } from "node:path";
import type { ExtraSettings } from "./configuration.ts";
import { readSetting, type ServerPlace } from "../server.ts";

/** Settings that a server needs on this host besides its own configuration; `warnings` gets what they change. */
export async function findExtraSettings(place: ServerPlace, port: number, warnings: string[]): Promise<ExtraSettings> {
  const extra: [string, string][] = port === 0 ? [] : [["port", String(port)]];
  const sockets = (await readSetting(place, "unix_socket_directories")).split(",").map((each) => each.trim());
  const usable = await Promise.all(sockets.map((folder) => isFolder(folder)));
  if (!usable.every(Boolean) || sockets[0] === "") {
    extra.push(["unix_socket_directories", "/tmp"]);
    warnings.push(`the folder of the server's socket, ${sockets.join(", ") || "none"}, is not here: it is in /tmp now`);
  }
  if ((await readSetting(place, "ssl")) === "on") {
    const key = await readSetting(place, "ssl_key_file");
    if (!(await stat(resolve(place.data, key)).catch(() => undefined))) {
      extra.push(["ssl", "off"]);
      warnings.push(`TLS is off: its key ${key} is not here`);
    }
  }
  return extra;
}

async function isFolder(path: string): Promise<boolean> {
  return path.startsWith("/") && ((await stat(path).catch(() => undefined))?.isDirectory() ?? false);
}
