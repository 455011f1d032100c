// What every RECOVER.txt is written with: names for people, words for the shell, streams as commands.
import type { StoredObject, StoredStream } from "@coppice/proto/gen/coppice/repository/v1/stored_object";

/** One word of a shell, whatever the text holds. */
export function quoteShell(text: string): string {
  return `'${text.replaceAll("'", String.raw`'\''`)}'`;
}

/** For a comment: one line, whatever the name holds. */
export function showName(text: string): string {
  return JSON.stringify(text);
}

/** A here-document's end that the text does not hold as a line. */
function delimiter(text: string): string {
  let word = "END";
  while (text.split("\n").includes(word)) word += "_";
  return word;
}

/** A command that reads the text as it is. */
export function hereDocument(command: string, text: string): string {
  const word = delimiter(text);
  return `${command} <<'${word}'\n${text}\n${word}`;
}

/** Comment lines that ask for the identity file, a newline before them; empty where nothing is encrypted. */
export function askForIdentity(recipients: readonly string[]): string {
  if (recipients.length === 0) return "";
  return `
# It is encrypted. Say where the identity file of one of these recipients is:${recipients
    .map((recipient) => `\n#   ${recipient}`)
    .join("")}
#   export IDENTITY=/media/safe/identity.txt`;
}

const decompressors: Readonly<Record<string, string>> = { zstd: " | zstd -dcq", gzip: " | gzip -dcq" };

/** A command that writes the plain bytes of a stream; the identity file of an encrypted one is in $IDENTITY. */
export function readStream(stream: StoredStream): string {
  const files = stream.objects.map(({ key }) => quoteShell(key)).join(" ");
  const decrypt = stream.encrypted ? ' | age --decrypt --identity="$IDENTITY"' : "";
  return `cat ${files}${decrypt}${decompressors[stream.codec] ?? ""}`;
}

/** What sha256sum --check reads. */
export function digestLines(objects: readonly StoredObject[]): string {
  return objects.map(({ key, sha256 }) => `${sha256}  ${key}`).join("\n");
}
