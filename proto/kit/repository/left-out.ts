import { DumpContents, type DumpOptions } from "../../gen/coppice/common/v1/dump_options_pb.js";

const only = (what: string, patterns: readonly string[]) =>
  patterns.length === 0 ? [] : [`all but ${what} ${patterns.join(" ")}`];
const but = (what: string, patterns: readonly string[]) =>
  patterns.length === 0 ? [] : [`${what} ${patterns.join(" ")}`];

/** What the flags of a dump kept out of each database in it, for people; empty when nothing. */
export function leftOutOfDatabases(dump: DumpOptions): string[] {
  return [
    ...only("tables", dump.tables),
    ...only("schemas", dump.schemas),
    ...but("tables", dump.excludeTables),
    ...but("schemas", dump.excludeSchemas),
    ...but("rows of", dump.excludeTableData),
    ...(dump.contents === DumpContents.SCHEMA_ONLY ? ["rows"] : []),
    ...(dump.contents === DumpContents.DATA_ONLY ? ["definitions"] : []),
    ...(dump.noLargeObjects ? ["large objects"] : []),
  ];
}

/** What they kept out of the cluster beside: databases, and passwords. */
export function leftOutOfCluster(dump: DumpOptions): string[] {
  return [
    ...only("databases", dump.databases),
    ...but("databases", dump.excludeDatabases),
    ...(dump.noRolePasswords ? ["passwords of roles"] : []),
  ];
}
