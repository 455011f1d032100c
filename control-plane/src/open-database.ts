import { chmod, mkdir, stat } from "node:fs/promises";
import { fail } from "@coppice/proto/kit/failure";
import type { Config } from "./config.ts";
import { type EmbeddedPostgres, openEmbeddedPostgres } from "./embedded/embedded-postgres.ts";

/** The catalog's database: the configured one, or our own. */
export interface OpenDatabase extends AsyncDisposable {
  readonly url: string;
  /** Our own; undefined when another one is configured. */
  readonly embedded: EmbeddedPostgres | undefined;
}

/**
 * Makes the data folder and starts the embedded server, when no database is configured. Errors: as those, and
 * CONFIGURATION_INVALID when root is asked to work in a folder of somebody else.
 */
export async function openDatabase(config: Config, signal: AbortSignal): Promise<OpenDatabase> {
  await makeDataFolder(config.dataDirectory);
  if (config.databaseUrl !== undefined) {
    return { url: config.databaseUrl, embedded: undefined, [Symbol.asyncDispose]: () => Promise.resolve() };
  }
  const embedded = await openEmbeddedPostgres({ dataDirectory: config.dataDirectory, signal });
  return { url: embedded.url, embedded, [Symbol.asyncDispose]: () => embedded[Symbol.asyncDispose]() };
}

async function makeDataFolder(folder: string): Promise<void> {
  const made = await mkdir(folder, { recursive: true, mode: 0o700 });
  if (process.getuid?.() !== 0) return;
  // Started as root, the embedded server's user passes through it; what is secret in it has modes of its own.
  if (made !== undefined) await chmod(folder, 0o711);
  const { uid, gid } = await stat(folder);
  if (uid === 0) return;
  fail(
    "CONFIGURATION_INVALID",
    `the data folder ${folder} is of user ${uid}, who could not read what root leaves in it`,
    {
      hint: `run it as that user: setpriv --reuid ${uid} --regid ${gid} --init-groups coppice-control …`,
    },
  );
}
