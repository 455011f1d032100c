/** What a line of a password file is looked up by. `hosts` are the names under which the server may stand there. */
export interface PasswordKey {
  readonly hosts: readonly string[];
  readonly port: number;
  readonly database: string;
  readonly user: string;
}

interface Field {
  readonly text: string;
  /** A bare asterisk, which matches everything; an escaped one does not. */
  readonly isAny: boolean;
}

/** Splits at the colons that no backslash protects. */
function splitLine(line: string): Field[] {
  return (line.match(/(?:^|:)((?:\\.|[^:\\]|\\$)*)/gsu) ?? []).map((part, index) => {
    const raw = index === 0 ? part : part.slice(1);
    return { text: raw.replaceAll(/\\(.)/gsu, "$1"), isAny: raw === "*" };
  });
}

/** The password of the first line of a .pgpass that matches, as libpq would find it. */
export function findPassword(text: string, { hosts, port, database, user }: PasswordKey): string | undefined {
  const wanted = [hosts, [String(port)], [database], [user]];
  for (const raw of text.split("\n")) {
    const line = raw.endsWith("\r") ? raw.slice(0, -1) : raw;
    if (line === "" || line.startsWith("#")) continue;
    const fields = splitLine(line);
    const password = fields[4]?.text;
    if (password === undefined) continue;
    if (wanted.every((names, index) => fields[index]?.isAny || names.includes(fields[index]?.text ?? "")))
      return password;
  }
  return undefined;
}
