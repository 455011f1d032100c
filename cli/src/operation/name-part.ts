import type { RecoverPartSpec } from "@coppice/proto/gen/coppice/control/v1/physical_operation";

/** As --table takes it again. */
export function nameTable(schema: string, name: string): string {
  return [...(schema === "" ? [] : [schema]), name].map(quoted).join(".");
}

const quoted = (name: string) => (/[."]/.test(name) ? `"${name.replaceAll('"', '""')}"` : name);

/** What a part is called: its tables, its schemas, or the whole database. */
export function namePart({ database, selection }: RecoverPartSpec): string {
  const tables = (selection?.tables ?? []).map(({ schema, name }) => nameTable(schema, name));
  const schemas = (selection?.schemas ?? []).map((schema) => `schema ${schema}`);
  const parts = [...tables, ...schemas];
  return parts.length === 0 ? database : `${parts.join(", ")} of ${database}`;
}

/** Where it goes, with the host where that is no cluster. */
export function placePart(spec: RecoverPartSpec, hostName: string): string {
  const { file, into, replace, targetClusterName, targetDatabase } = spec;
  if (file !== "") return `into the file ${hostName}:${file}`;
  if (replace) return `beside ${targetDatabase} of ${targetClusterName}, to take its place once that is confirmed`;
  return into
    ? `into the present ${targetDatabase} of ${targetClusterName}`
    : `into ${targetClusterName} as ${targetDatabase}`;
}
