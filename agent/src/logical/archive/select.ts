import { fail } from "@coppice/proto/kit/failure";
import type { ArchiveContents, ArchiveEntry } from "./contents.ts";

/** What is wanted of an archive, by exact names. */
export interface Wanted {
  readonly schemas: readonly string[];
  /** An empty schema means that only one schema may have a table of that name. */
  readonly tables: readonly { readonly schema: string; readonly name: string }[];
}

/** What of an archive is restored. */
export interface Selected {
  /** In the archive's order. */
  readonly entries: readonly ArchiveEntry[];
  /** Of them those that were asked for; the others are needed by these, and may be there already. */
  readonly wanted: ReadonlySet<number>;
  /** What belongs to something selected and is left out, with the reason. */
  readonly warnings: readonly string[];
}

const relations = new Set(["TABLE", "FOREIGN TABLE", "VIEW", "MATERIALIZED VIEW"]);
/** Kinds that are nothing without what they belong to, and come with it. */
const attached = new Set(
  [
    "ACL,CHECK CONSTRAINT,COMMENT,CONSTRAINT,DEFAULT,FK CONSTRAINT,INDEX,INDEX ATTACH,MATERIALIZED VIEW DATA,POLICY",
    "ROW SECURITY,RULE,SECURITY LABEL,SEQUENCE,SEQUENCE OWNED BY,SEQUENCE SET,STATISTICS,STATISTICS DATA,TABLE ATTACH",
    "TABLE DATA,TRIGGER",
  ].flatMap((line) => line.split(",")),
);
const namedAtMost = 10;

/** An object's kind and name, for messages. */
export function describeEntry({ kind, schema, name }: Pick<ArchiveEntry, "kind" | "schema" | "name">): string {
  return `${kind} ${JSON.stringify(schema === "" ? name : `${schema}.${name}`)}`;
}

/** Some entries for a message. */
export function describeEntries(entries: readonly ArchiveEntry[]): string {
  const more = entries.length > namedAtMost ? ` and ${entries.length - namedAtMost} more` : "";
  return entries.slice(0, namedAtMost).map(describeEntry).join(", ") + more;
}

function refuse(message: string): never {
  return fail("SELECTION_REFUSED", message);
}

function findTable(entries: readonly ArchiveEntry[], { schema, name }: Wanted["tables"][number]): ArchiveEntry {
  const found = entries.filter(
    (entry) =>
      (relations.has(entry.kind) || entry.kind === "SEQUENCE") &&
      entry.name === name &&
      (schema === "" || entry.schema === schema),
  );
  const shown = JSON.stringify(schema === "" ? name : `${schema}.${name}`);
  if (found.length > 1)
    refuse(`several schemas have a table ${shown}: ${found.map((entry) => JSON.stringify(entry.schema)).join(", ")}`);
  return found[0] ?? refuse(`the archive has no table ${shown}`);
}

/** The parents of partitions by the partitions' ids. */
function partitionParents(entries: readonly ArchiveEntry[]): Map<number, number> {
  const byId = new Map(entries.map((entry) => [entry.id, entry]));
  const parents = new Map<number, number>();
  for (const { kind, schema, name, needs } of entries) {
    if (kind !== "TABLE ATTACH") continue;
    const child = needs.find((id) => byId.get(id)?.schema === schema && byId.get(id)?.name === name);
    const parent = needs.find((id) => id !== child);
    if (child !== undefined && parent !== undefined) parents.set(child, parent);
  }
  return parents;
}

function chooseTables({ entries }: ArchiveContents, wanted: Wanted, parents: ReadonlyMap<number, number>): Set<number> {
  const chosen = new Set<number>();
  for (const schema of wanted.schemas) {
    const members = entries.filter(
      (each) => each.schema === schema || (each.kind === "SCHEMA" && each.name === schema),
    );
    if (members.length === 0) refuse(`the archive has no schema ${JSON.stringify(schema)}`);
    for (const { id } of members) chosen.add(id);
  }
  for (const table of wanted.tables) chosen.add(findTable(entries, table).id);
  // The rows of a partitioned table are its partitions'; a partition's own partitions come in a later round.
  for (let size = -1; size !== chosen.size;) {
    size = chosen.size;
    for (const [child, parent] of parents) if (chosen.has(parent)) chosen.add(child);
  }
  return chosen;
}

/**
 * Selects from an archive the wanted schemas and tables with all that belongs to them, and what they need: types,
 * functions, extensions, schemas. Something attached that needs a table which is left out (a foreign key) is left out
 * with a warning. Fails with SELECTION_REFUSED when a name is not there or not unique, or when something wanted (a view)
 * needs a table that is not.
 */
export function selectEntries(contents: ArchiveContents, wanted: Wanted): Selected {
  const { entries } = contents;
  const byId = new Map(entries.map((entry) => [entry.id, entry]));
  const schemas = new Map(entries.filter(({ kind }) => kind === "SCHEMA").map((entry) => [entry.name, entry.id]));
  const parents = partitionParents(entries);
  const chosen = chooseTables(contents, wanted, parents);

  const needsOf = (entry: ArchiveEntry): number[] => {
    const schema = schemas.get(entry.schema);
    const needs = schema === undefined ? entry.needs : [...entry.needs, schema];
    // A partition is created by itself and attached later.
    return needs.filter((id) => byId.has(id) && id !== entry.id && parents.get(entry.id) !== id);
  };
  const blockers = new Map<number, ArchiveEntry | undefined>();
  /** A table that the entry cannot do without and that is left out. */
  const blockerOf = (entry: ArchiveEntry): ArchiveEntry | undefined => {
    if (blockers.has(entry.id)) return blockers.get(entry.id);
    blockers.set(entry.id, undefined);
    let blocker: ArchiveEntry | undefined;
    for (const id of needsOf(entry)) {
      const needed = byId.get(id);
      if (!needed || blocker) continue;
      if (relations.has(needed.kind)) blocker = chosen.has(id) ? undefined : needed;
      else blocker = blockerOf(needed);
    }
    blockers.set(entry.id, blocker);
    return blocker;
  };

  const taken = new Set<number>();
  const take = (entry: ArchiveEntry): void => {
    if (taken.has(entry.id)) return;
    taken.add(entry.id);
    for (const id of needsOf(entry)) {
      const needed = byId.get(id);
      if (needed) take(needed);
    }
  };
  const leftOut = new Map<number, string>();
  const leaveOut = (entry: ArchiveEntry, blocker: ArchiveEntry) =>
    leftOut.set(
      entry.id,
      `${describeEntry(entry)} is left out: it needs ${describeEntry(blocker)}, which is not restored`,
    );

  for (const id of chosen) {
    const entry = byId.get(id);
    if (!entry) continue;
    const blocker = blockerOf(entry);
    if (!blocker) take(entry);
    else if (attached.has(entry.kind)) leaveOut(entry, blocker);
    else refuse(`${describeEntry(entry)} needs ${describeEntry(blocker)}, which was not selected`);
  }
  const isOwn = (entry: ArchiveEntry) =>
    entry.needs.some((id) => {
      const owner = byId.get(id);
      if (!owner || !chosen.has(id) || !relations.has(owner.kind) || owner.schema !== entry.schema) return false;
      return entry.name === owner.name || entry.name.startsWith(`${owner.name} `);
    });
  for (let size = -1; size !== taken.size;) {
    size = taken.size;
    for (const entry of entries) {
      if (taken.has(entry.id) || !attached.has(entry.kind) || !entry.needs.some((id) => taken.has(id))) continue;
      const blocker = blockerOf(entry);
      if (!blocker) take(entry);
      else if (isOwn(entry)) leaveOut(entry, blocker);
    }
  }
  return {
    entries: entries.filter(({ id }) => taken.has(id)),
    wanted: chosen,
    warnings: [...leftOut.values()],
  };
}

/** The text that makes pg_restore --use-list take exactly these entries. */
export function formatUseList(entries: readonly ArchiveEntry[]): string {
  return entries.map(({ id }) => `${id};\n`).join("");
}
