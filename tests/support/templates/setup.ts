import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { initServer } from "../postgres-servers.ts";
import { offerTemplates, templateName } from "./data-folder.ts";
import { offerPackagedServer } from "./server-programs.ts";

/**
 * Before vitest's first test: a data folder of each major, for initdb would take a second for every server, and a place
 * for what Node has compiled, for every file and many a test start programs from their sources.
 */
export async function setup(): Promise<() => Promise<void>> {
  const folder = await mkdtemp(join(tmpdir(), "coppice-test-templates-"));
  await chmod(folder, 0o755);
  await offerPackagedServer(folder);
  await Promise.all([15, 16, 17, 18].map((major) => initServer(major, join(folder, templateName(major)))));
  offerTemplates(folder);
  process.env["NODE_COMPILE_CACHE"] ??= join(folder, "compiled");
  return () => rm(folder, { recursive: true, force: true, maxRetries: 5 });
}
