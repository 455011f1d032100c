import type { JsonObject, JsonValue } from "@bufbuild/protobuf";
import { fail } from "@coppice/proto/kit/failure";

/**
 * Features of manifest.json and cluster.json that this version knows: streams encrypted by age; databases or a whole
 * cluster as SQL; physical backups, with their WAL in them or in the archive, as PostgreSQL's incrementals, and as WAL alone.
 */
const knownFeatures: ReadonlySet<JsonValue> = new Set<JsonValue>([
  "age",
  "archived-wal",
  "cluster-dump",
  "embedded-wal",
  "incremental",
  "physical",
  "plain-dump",
  "wal-increment",
]);
const knownVersion = 1;

/** Parses a JSON document of the repository. Fails with MANIFEST_UNREADABLE. */
export function parseJsonObject(bytes: Uint8Array, key: string): JsonObject {
  let value: JsonValue;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes)) as JsonValue;
  } catch (error) {
    fail("MANIFEST_UNREADABLE", `${key} is not JSON`, { cause: error });
  }
  if (value === null || typeof value !== "object" || Array.isArray(value)) {
    fail("MANIFEST_UNREADABLE", `${key} is not a JSON object`);
  }
  return value;
}

/**
 * Refuses a document that needs more than this version knows, before anything else of it is looked at. Fails with
 * FEATURE_UNKNOWN, naming it, or MANIFEST_UNREADABLE.
 */
export function checkFeatures(json: JsonObject, key: string): void {
  const { formatVersion, requiredFeatures = [] } = json;
  if (typeof formatVersion !== "number" || !Array.isArray(requiredFeatures)) {
    fail("MANIFEST_UNREADABLE", `${key} does not say its format version`);
  }
  const unknown = requiredFeatures.filter((feature) => !knownFeatures.has(feature));
  if (formatVersion !== knownVersion) unknown.push(`format version ${formatVersion}`);
  if (unknown.length > 0) {
    const features = unknown.map(String).join(", ");
    fail("FEATURE_UNKNOWN", `${key} needs ${features}, which this version does not know`, { metadata: { features } });
  }
}
