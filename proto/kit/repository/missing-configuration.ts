import type { PhysicalContent } from "../../gen/coppice/repository/v1/physical_content_pb.js";

/** What a physical backup lacks of its server's configuration, each with the reason; what holds WAL alone lacks none. */
export function missingConfiguration({ base, dataDirectory, configFiles }: PhysicalContent): string[] {
  if (!base) return [];
  if (dataDirectory === "") return ["what lies outside the data directory: the role may not see where that is"];
  return configFiles.flatMap(({ path, stream, problem }) => (stream ? [] : [`${path}: ${problem}`]));
}
