import { DumpContents } from "@coppice/proto/gen/coppice/common/v1/dump_options";
import type { RestoreSelection } from "@coppice/proto/gen/coppice/common/v1/restore_selection";
import { type RestoreRequest, RestoreWhat } from "@coppice/proto/gen/coppice/control/v1/restore";
import { fail } from "@coppice/proto/kit/failure";

/** What a request asks for. */
export type RestoreCase = "database" | "file" | "globals" | "cluster" | "part" | "physical";

type Field = Exclude<keyof RestoreRequest, "$typeName" | "$unknown">;

/** Fields that say something only in some cases, with the cases and how a refusal calls the others. */
const onlyFor: readonly (readonly [field: Field, cases: readonly RestoreCase[], expected: string])[] = [
  ["backup", ["database", "globals", "cluster", "physical", "part"], "nothing: the file is what is restored"],
  ["targetCluster", ["database", "globals", "cluster", "part"], "nothing: a file is restored into the cluster itself"],
  ["database", ["database", "file", "part"], "nothing: it is about the whole cluster"],
  ["targetDatabase", ["database", "file", "part"], "nothing: databases keep their names"],
  ["replace", ["database", "file", "cluster", "physical", "part"], "nothing: roles that are there stay as they are"],
  ["jobs", ["database", "file", "cluster", "part"], "nothing: globals are applied one after the other"],
  ["into", ["database", "file", "part"], "nothing: it is for one database"],
  ["roles", ["globals", "cluster"], "nothing: roles are restored with the globals or the cluster"],
  ["noTablespaces", ["globals", "cluster"], "nothing: tablespaces are restored with the globals or the cluster"],
  ["file", ["file"], "nothing: a file holds one database, and is no physical backup"],
  ["identity", ["file"], "nothing: the identity of a repository is kept with it"],
  ["fileHost", ["file"], "nothing: it is the host of a file, and no file is given"],
  ["accept", ["physical", "part"], "nothing: it is about points in time"],
];

const titles: Readonly<Record<RestoreCase, string>> = {
  database: "a restore of a database of a backup",
  file: "a restore of a file",
  globals: "a restore of the globals",
  cluster: "a restore of the whole cluster",
  part: "a restore of a part to a point in time",
  physical: "a restore of a data directory",
};

/** What a request asks for, weighed without looking at anything. Errors: INVALID_FIELD, naming the field. */
export function weighRequest(request: RestoreRequest): RestoreCase {
  const what = caseOf(request);
  for (const [field, cases, expected] of onlyFor) {
    if (isGiven(request[field]) && !cases.includes(what)) refuse(field, `${titles[what]} takes no`, expected);
  }
  if (what === "physical" && request.what !== RestoreWhat.UNSPECIFIED) {
    contradict("what", `${titles.physical} brings back all of it`, "nothing with physical");
  }
  if (what === "part") weighPart(request, request.part?.file !== "");
  if ((what === "database" || what === "part") && request.database === "") {
    fail("INVALID_FIELD", "it is not said which database is to be restored", {
      hint: "name the database, or ask for the globals or the whole cluster",
      fields: [{ field: "restore.database", expected: "the name of a database in the backup" }],
    });
  }
  if (what === "file" && request.database === "" && request.targetDatabase === "") {
    fail("INVALID_FIELD", "a file does not say what its database is to be called", {
      hint: "give the name with --as",
      fields: [{ field: "restore.target_database", expected: "a name for the restored database" }],
    });
  }
  if (request.selection !== undefined) weighSelection(what, request, request.selection);
  if (!request.into) return what;
  if (request.replace)
    contradict("into", "what goes into the present database does not replace it", "not with replace");
  if (request.jobs > 1) contradict("jobs", "one transaction is the work of one job", "0 or 1 with into");
  return what;
}

function caseOf({ what, file, part, physical }: RestoreRequest): RestoreCase {
  if (part !== undefined) return "part";
  if (physical !== undefined) return "physical";
  if (what === RestoreWhat.GLOBALS) return "globals";
  if (what === RestoreWhat.CLUSTER) return "cluster";
  return file === "" ? "database" : "file";
}

/** What goes with a point in time: one database, into a cluster or into a file. */
function weighPart(request: RestoreRequest, isFile: boolean): void {
  const { what, physical, part, selection, targetCluster, targetDatabase, replace, into, jobs } = request;
  if (physical !== undefined) contradict("part", `${titles.physical} brings back all of it`, "not with physical");
  if (what !== RestoreWhat.UNSPECIFIED && what !== RestoreWhat.DATABASE) {
    contradict("what", `${titles.part} is of one database`, "nothing with part, or one database");
  }
  if (!isFile) {
    if (part?.fileHost) contradict("part.file_host", "no file is to be made", "nothing without file");
    return;
  }
  if (!part?.fileHost) contradict("part.file_host", "it is not said on which host the file is to be", "its host");
  const given = { target_cluster: targetCluster, target_database: targetDatabase, replace, into, jobs };
  const [foreign] = Object.entries(given).filter(([, value]) => isGiven(value));
  if (foreign) contradict(foreign[0], "a dump file is no database yet", "nothing with a file");
  if (selection?.checksums) contradict("selection.checksums", "a dump file is not loaded", "not with a file");
  if ((selection?.schemas.length ?? 0) > 0 && (selection?.tables.length ?? 0) > 0) {
    contradict("selection", "a dump file holds chosen schemas or chosen tables", "schemas or tables, not both");
  }
}

function weighSelection(what: RestoreCase, request: RestoreRequest, selection: RestoreSelection): void {
  const { schemas, tables, contents, noOwner, noPrivileges, checksums } = selection;
  if (what === "physical") {
    contradict("selection", "a restore of a data directory takes no selection", "nothing: all of it comes back");
  }
  const isPart = schemas.length > 0 || tables.length > 0;
  const isOnlyRows = contents === DumpContents.DATA_ONLY;
  if (what === "globals" && (isPart || contents || noOwner || noPrivileges || checksums)) {
    contradict("selection", "a restore of the globals takes no selection", "nothing: name roles instead");
  }
  if (what === "cluster" && isPart) {
    contradict("selection", "schemas and tables are chosen of one database", "no schemas or tables with the cluster");
  }
  const isForFile = what === "part" && request.part?.file !== "";
  if (isOnlyRows && !request.into && !isForFile) {
    contradict("selection.contents", "rows alone need tables to go to", "into, for a database that has the tables");
  }
  if (isPart && request.replace) {
    contradict(
      "replace",
      "a part of a database cannot take the place of all of it",
      "a new name for it, or into, for the present database",
    );
  }
}

function isGiven(value: unknown): boolean {
  return Array.isArray(value) ? value.length > 0 : Boolean(value);
}

function refuse(field: Field, message: string, expected: string): never {
  const name = field.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
  return contradict(name, `${message} ${name.replaceAll("_", " ")}`, expected);
}

function contradict(field: string, message: string, expected: string): never {
  return fail("INVALID_FIELD", message, { fields: [{ field: `restore.${field}`, expected }] });
}
