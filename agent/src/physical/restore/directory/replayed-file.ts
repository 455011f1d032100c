import { readIfThere } from "../settings/configuration.ts";
import { readPidOf } from "./running-server.ts";

/** As which the process that replays WAL shows itself, to `ps` too, wherever the server's log goes. */
const title = /\bstartup (?:recovering|waiting for) ([0-9A-F]{24})/;

/**
 * The file of WAL that the server of a data directory replays, or waits for; undefined where it does not say so, as
 * before it has begun, with update_process_title off, or to who may not look at its processes.
 */
export async function replayedFile(dataDirectory: string): Promise<string | undefined> {
  const pid = await readPidOf(dataDirectory);
  if (pid === undefined) return undefined;
  const children = (await readIfThere(`/proc/${pid}/task/${pid}/children`).catch(() => undefined)) ?? "";
  for (const child of children.split(" ").filter(Boolean)) {
    const shown = (await readIfThere(`/proc/${child}/cmdline`).catch(() => undefined)) ?? "";
    const file = title.exec(shown)?.[1];
    if (file !== undefined) return file;
  }
  return undefined;
}
