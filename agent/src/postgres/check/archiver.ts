import type { ServerSettings } from "./server-settings.ts";

/** How the tools that archive WAL are known by what calls them; a command itself may hold secrets, and is never shown. */
const tools: readonly (readonly [name: string, pattern: RegExp])[] = [
  ["pgBackRest", /pgbackrest/i],
  ["WAL-G", /\bwal-?g\b/i],
  ["Barman", /barman/i],
  ["WAL-E", /\bwal-e\b/i],
  ["pg_probackup", /pg_probackup/i],
];

/** Commands that archive nothing: nobody loses anything when they are replaced. */
const idle = ["", "(disabled)", "true", "/bin/true", ":", "exit 0"];

/** Whether an archive_command archives nothing. */
export const isIdleCommand = (command: string) => idle.includes(command.trim());

/** The end of what hands WAL to an agent of Coppice, wherever its program and its folder are. */
const coppice = /\bcoppice-wal'? push '.*' %p$/;

const nameOf = (text: string) => tools.find(([, pattern]) => pattern.test(text))?.[0];

/**
 * Who archives the WAL of a server: a tool by its name, else what is known of it; undefined when nobody does. Slots count
 * too, because some tools receive WAL by one and leave archive_mode off. By "nothing" the server keeps all its WAL, by
 * "discard" a command says of each file that it is archived.
 */
export function findArchiver({
  archiveMode,
  archiveCommand,
  archiveLibrary,
  slotNames,
}: Pick<ServerSettings, "archiveMode" | "archiveCommand" | "archiveLibrary" | "slotNames">):
  | { readonly name: string; readonly by: "archive_mode" | "slot" | "nothing" | "discard" | "coppice" }
  | undefined {
  if (archiveMode === "on" || archiveMode === "always") {
    if (archiveLibrary) return { name: nameOf(archiveLibrary) ?? `the library ${archiveLibrary}`, by: "archive_mode" };
    if (archiveCommand === "" || archiveCommand === "(disabled)") return { name: "nobody", by: "nothing" };
    if (isIdleCommand(archiveCommand)) return { name: "nobody", by: "discard" };
    if (coppice.test(archiveCommand)) return { name: "Coppice", by: "coppice" };
    return { name: nameOf(archiveCommand) ?? "a command of its own", by: "archive_mode" };
  }
  // `_` is a letter to \b, and what slots are named with.
  const slot = slotNames.map((each) => nameOf(each.replaceAll("_", " "))).find((each) => each !== undefined);
  return slot === undefined ? undefined : { name: slot, by: "slot" };
}
