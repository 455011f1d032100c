/** Undoes psql's double quotes, in which two of them are one. */
function unquote(text: string): string {
  return text.startsWith('"') && text.endsWith('"') && text.length > 1 ? text.slice(1, -1).replaceAll('""', '"') : text;
}

/** The dbname of a connection string as pg_dump writes it: nothing else is in it. */
function databaseOf(conninfo: string): string | undefined {
  const value = /^dbname=(?:'((?:[^'\\]|\\.)*)'|(\S+))$/s.exec(conninfo);
  return (value?.[1] ?? value?.[2])?.replaceAll(/\\(.)/gs, "$1");
}

/**
 * The database that a \connect of pg_dump or pg_dumpall leads to, as appendPsqlMetaConnect writes it; undefined for any
 * other command.
 */
export function parseConnect(command: string): string | undefined {
  const parts = /^\\connect (-reuse-previous=on )?("(?:[^"]|"")*"|[^\s"']+)\s*$/.exec(command);
  if (parts?.[2] === undefined) return undefined;
  const word = unquote(parts[2]);
  return parts[1] === undefined ? word : databaseOf(word);
}
