import { DumpContents, type DumpOptions } from "../../gen/coppice/common/v1/dump_options_pb.js";

/** Whether a dump was asked for that leaves nothing out: no database, schema, table, definition or row. */
export function isWholeCluster(options: DumpOptions | undefined): boolean {
  return options === undefined || (options.excludeDatabases.length === 0 && isWholeOfDatabases(options));
}

/** The same, whatever databases are left out by name. */
export function isWholeOfDatabases(options: DumpOptions): boolean {
  const selections = [
    options.databases,
    options.tables,
    options.excludeTables,
    options.schemas,
    options.excludeSchemas,
    options.excludeTableData,
  ];
  const isAll = options.contents === DumpContents.UNSPECIFIED || options.contents === DumpContents.ALL;
  return isAll && !options.noLargeObjects && selections.every((selection) => selection.length === 0);
}
