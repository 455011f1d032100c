/** A result as the server sent it; a NULL is undefined. */
export type Row = ReadonlyMap<string, Buffer | undefined>;

/** Names of the columns of a RowDescription. */
export function parseColumns(body: Buffer): string[] {
  const names: string[] = [];
  let at = 2;
  for (let count = body.readUInt16BE(0); count > 0; count--) {
    const end = body.indexOf(0, at);
    names.push(body.toString("utf8", at, end));
    // Table, column, type, size, modifier and format.
    at = end + 1 + 18;
  }
  return names;
}

/** A DataRow under the given names. */
export function parseRow(names: readonly string[], body: Buffer): Row {
  const row = new Map<string, Buffer | undefined>();
  let at = 2;
  for (const name of names) {
    const length = body.readInt32BE(at);
    at += 4;
    row.set(name, length < 0 ? undefined : body.subarray(at, at + length));
    at += Math.max(length, 0);
  }
  return row;
}

/** A column's text; fails where the server sent none, for the protocol says that there is one. */
export function textOf(row: Row | undefined, name: string): string {
  const value = row?.get(name);
  if (value === undefined) throw new Error(`the server's answer lacks ${name}`);
  return value.toString("utf8");
}
