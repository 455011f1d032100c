import { posix } from "node:path";
import { quoteSetting } from "./recovery-settings.ts";

/** Settings that say where parts of a server lie: in a restored data directory all of them lie in it. */
const placeSettings: ReadonlySet<string> = new Set(["data_directory", "external_pid_file", "hba_file", "ident_file"]);
/** Of the source's archiving and standbys: none of it counts in a restored server, and passwords may be in it. */
const secretSettings: ReadonlySet<string> = new Set([
  "archive_cleanup_command",
  "archive_command",
  "primary_conninfo",
  "recovery_end_command",
  "restore_command",
]);
const includeWords: ReadonlySet<string> = new Set(["include", "include_dir", "include_if_exists"]);

/** Where a stored file of the configuration goes: a path relative to the data directory. */
export function placeOfInclude(path: string, configFile: string | undefined): string {
  const relative = configFile === undefined ? ".." : posix.relative(posix.dirname(configFile), path);
  if (relative !== "" && !relative.startsWith("..")) return relative;
  return `configuration${posix.resolve("/", path)}`;
}

function unquote(text: string): string {
  const quoted = /^'((?:[^'\\]|''|\\.)*)'/.exec(text)?.[1];
  return quoted === undefined ? (/^[^\s#]+/.exec(text)?.[0] ?? "") : quoted.replaceAll("''", "'");
}

/** New places of paths that lead elsewhere, as the file that includes them has to name them; undefined where there is none. */
export type PlacesOfIncludes = Pick<ReadonlyMap<string, string>, "get">;

const settingLine = /^\s*([A-Za-z_]\w*)(?:\s*=\s*|\s+|(?='))(.*)$/;

/** What a file of the configuration includes, as it names it. */
export function includesOf(text: string): { readonly path: string; readonly isFolder: boolean }[] {
  return text.split("\n").flatMap((line) => {
    const [, name = "", rest = ""] = settingLine.exec(line) ?? [];
    const word = name.toLowerCase();
    return includeWords.has(word) ? [{ path: unquote(rest), isFolder: word === "include_dir" }] : [];
  });
}

/**
 * A postgresql.conf for another place: what says where files lie is commented out, what may hold a password left out, and includes of what lay elsewhere go where the
 * files went; those that are not there are commented out too. `places` are of folders, too.
 */
export function rewriteConfiguration(text: string, places: PlacesOfIncludes): string {
  const lines = text.split("\n").map((line) => {
    const [, name = "", rest = ""] = settingLine.exec(line) ?? [];
    const word = name.toLowerCase();
    if (placeSettings.has(word)) return `# moved: ${line}`;
    if (secretSettings.has(word)) return `# left out, a password may be in it: ${word}`;
    if (!includeWords.has(word)) return line;
    const path = unquote(rest);
    if (!/^(\/|\.\.)/.test(posix.normalize(path)))
      return word === "include" ? line.replace(/include/i, "include_if_exists") : line;
    const place = places.get(posix.normalize(path));
    return place === undefined ? `# not in the backup: ${line}` : `${word} ${quoteSetting(place)}`;
  });
  return lines.join("\n");
}
