import { readFileSync } from "node:fs";

declare const COPPICE_VERSION: string | undefined;

/** Version of this program: put in by the build; run from its sources, that of the workspace. */
export function cliVersion(): string {
  if (typeof COPPICE_VERSION === "string") return COPPICE_VERSION;
  const manifest: unknown = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8"));
  return typeof manifest === "object" && manifest !== null && "version" in manifest ? String(manifest.version) : "0";
}
