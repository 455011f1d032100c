import { create } from "@bufbuild/protobuf";
import { DumpContents } from "@coppice/proto/gen/coppice/common/v1/dump_options";
import { type RestoreSelection, RestoreSelectionSchema } from "@coppice/proto/gen/coppice/common/v1/restore_selection";
import { fail } from "@coppice/proto/kit/failure";
import type { ArchiveContents, ArchiveEntry } from "./archive/contents.ts";
import { restoredObjects } from "./archive/objects.ts";
import { describeEntries, formatUseList, selectEntries } from "./archive/select.ts";
import type { Expected } from "./compare.ts";
import type { RestoreSource } from "./source/source.ts";

/** What of a dump is restored, and how pg_restore is told. */
export interface Scope {
  /** Entries that are restored; undefined for a script, of which all is. */
  readonly entries: readonly ArchiveEntry[] | undefined;
  /** Ids of those that were asked for, not only needed. */
  readonly wanted: ReadonlySet<number>;
  /** Whether it is less than the whole archive. */
  readonly isPart: boolean;
  readonly options: readonly string[];
  readonly warnings: readonly string[];
  readonly selection: RestoreSelection;
}

/** Kinds that a database may have already without anything clashing; then it keeps its own. */
const shareable = new Set(["SCHEMA", "EXTENSION", "PROCEDURAL LANGUAGE"]);
const relations = new Set(["TABLE", "FOREIGN TABLE", "VIEW", "MATERIALIZED VIEW", "SEQUENCE", "INDEX"]);
/** Entries that are a part of another one, which clashes for them. */
/** What every archive has of its own: settings for the load, and the database itself; none of it can be in the way. */
const frame = new Set(["ENCODING", "STDSTRINGS", "SEARCHPATH", "DATABASE", "DATABASE PROPERTIES"]);
const parts = new Set(["ACL", "COMMENT", "DEFAULT", "DEFAULT ACL", "SECURITY LABEL", "ROW SECURITY"]);

function contentOptions(contents: DumpContents): string[] {
  if (contents === DumpContents.SCHEMA_ONLY) return ["--schema-only"];
  return contents === DumpContents.DATA_ONLY ? ["--data-only"] : [];
}

/** What a restore's selection means for its source. Fails with SELECTION_REFUSED. */
export function planScope(source: RestoreSource, wish: RestoreSelection | undefined): Scope {
  const selection = wish ?? create(RestoreSelectionSchema);
  const { schemas, tables, contents, noOwner, noPrivileges, checksums } = selection;
  const isPart = schemas.length > 0 || tables.length > 0;
  if (!source.contents) {
    if (isPart || contentOptions(contents).length > 0 || noOwner || noPrivileges || checksums)
      fail("SELECTION_REFUSED", `${source.title} is plain SQL, of which only all can be restored, as it is`, {
        hint: "restore all of it under another name, and copy what is wanted from there",
      });
    return { entries: undefined, wanted: new Set(), isPart, options: [], warnings: [], selection };
  }
  const options = [
    ...contentOptions(contents),
    ...(noOwner ? ["--no-owner"] : []),
    ...(noPrivileges ? ["--no-privileges"] : []),
  ];
  if (!isPart) {
    const { entries } = source.contents;
    return { entries, wanted: new Set(entries.map(({ id }) => id)), isPart, options, warnings: [], selection };
  }
  return { ...selectEntries(source.contents, { schemas, tables }), isPart, options, selection };
}

function placeOf({ kind, schema, name }: ArchiveEntry): string {
  return JSON.stringify([relations.has(kind) ? "relation" : kind, schema, name]);
}

/**
 * What of the scope goes into a database that is there: what it has already and is only needed is left out. Fails with
 * OBJECT_CLASHES naming what was asked for and is there, or with TABLE_MISSING when rows have no table to go to.
 */
export function fitInto(scope: Scope, target: ArchiveContents, database: string): Scope {
  if (!scope.entries) return scope;
  const present = new Set(target.entries.map(placeOf));
  const shown = JSON.stringify(database);
  if (scope.selection.contents === DumpContents.DATA_ONLY) {
    const homeless = scope.entries.filter(
      (entry) => entry.kind === "TABLE DATA" && !present.has(JSON.stringify(["relation", entry.schema, entry.name])),
    );
    if (homeless.length > 0)
      fail("TABLE_MISSING", `the database ${shown} has no table for the rows of ${describeEntries(homeless)}`);
    const entries = scope.entries.filter(({ kind }) => kind !== "SEQUENCE SET");
    if (entries.length === scope.entries.length) return scope;
    // The archive's values may lie behind those that rows which are there were given.
    const warning = "sequences keep their values; set those that lie behind the rows that were added";
    return { ...scope, entries, isPart: true, warnings: [...scope.warnings, warning] };
  }
  const isThere = (entry: ArchiveEntry) =>
    entry.section !== "data" && !parts.has(entry.kind) && !frame.has(entry.kind) && present.has(placeOf(entry));
  const there = scope.entries.filter(isThere);
  const clashing = there.filter(({ id, kind }) => scope.wanted.has(id) && !shareable.has(kind));
  if (clashing.length > 0) fail("OBJECT_CLASHES", `the database ${shown} has already ${describeEntries(clashing)}`);
  const kept = new Set(there.map(({ id }) => id));
  // Privileges and comments of what stays as it is stay as well.
  const entries = scope.entries.filter(
    ({ id, kind, needs }) => !kept.has(id) && !(parts.has(kind) && needs.some((need) => kept.has(need))),
  );
  return { ...scope, entries, isPart: true };
}

/** The list for pg_restore, where it is less than all. */
export function useListOf({ entries, isPart }: Scope): string | undefined {
  return isPart && entries ? formatUseList(entries) : undefined;
}

/** What has to be found after the restore; `isInto`: among other things, which are not counted. */
export function expectedOf({ entries, isPart, selection }: Scope, toolMajor: number, isInto: boolean): Expected {
  const objects = entries && restoredObjects(entries, selection);
  const isData = selection.contents === DumpContents.DATA_ONLY;
  const own = entries?.filter(({ kind }) => kind === (isData ? "TABLE DATA" : "TABLE"));
  return { objects, toolMajor, hasOwners: !selection.noOwner, tables: isPart || isInto ? own : undefined };
}

/** Roles that have to be there: owners, and of the known ones those that privileges name. */
export function rolesOf({ entries, isPart, selection }: Scope, source: RestoreSource): string[] {
  const { noOwner, noPrivileges, contents } = selection;
  if (contents === DumpContents.DATA_ONLY) return [];
  const { dumped } = source;
  if (dumped && !isPart && !noOwner && !noPrivileges) return [dumped.properties?.owner ?? "", ...dumped.roles];
  const owners = noOwner ? [] : (entries ?? []).filter(({ kind }) => kind !== "EXTENSION").map(({ owner }) => owner);
  const grants = noPrivileges ? [] : (entries ?? []).filter(({ kind }) => kind.endsWith("ACL"));
  const named = (dumped?.roles ?? []).filter((role) => grants.some(({ definition }) => definition.includes(role)));
  return [...owners, ...named];
}
