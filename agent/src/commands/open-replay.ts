import { randomUUID } from "node:crypto";
import { mkdir, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { RestorePhysicalCommand } from "@coppice/proto/gen/coppice/agent/v1/restore_physical";
import { fail } from "@coppice/proto/kit/failure";
import { parseLsn } from "@coppice/proto/kit/wal/lsn";
import { readManifest } from "../repository/get.ts";
import type { Storage } from "../storage/storage.ts";
import { openFetchServer } from "../wal/fetch/serve-fetch.ts";
import type { CommandContext } from "./handler.ts";
import { required } from "./required.ts";

/** Archived WAL on its way to a server that recovers; disposing hands out no more. */
export interface Replay extends AsyncDisposable {
  /** The server's restore_command. */
  readonly restoreCommand: string;
}

const waitMs = 300_000;

/**
 * Hands out the WAL that a restore replays, over a socket in a folder whose name nobody can guess, as long as it is open.
 * `storage` is the repository of the WAL, `backups` the one of the newest backup of the chain, which says whose WAL it is.
 * Fails with PROGRAM_MISSING without coppice-wal beside the agent, or as the storages do.
 */
export async function openReplay(
  command: RestorePhysicalCommand,
  context: CommandContext,
  { storage, backups }: { readonly storage: Storage; readonly backups: Storage },
): Promise<Replay> {
  const { signal, workFolder, secret, log } = context;
  const newest = required(command.chain.at(-1), "chain");
  const shim = await findShim();
  const { manifest } = await readManifest(backups, newest, signal);
  const folder = join(workFolder, `w-${randomUUID().replaceAll("-", "")}`);
  await using stack = new AsyncDisposableStack();
  stack.defer(() => rm(folder, { recursive: true, force: true }));
  // The server's user has to pass through.
  await mkdir(folder, { mode: 0o711 });
  const socketPath = join(folder, "s");
  const identities = secret(command.walRepository?.identitySecret ?? "");
  stack.use(
    await openFetchServer({
      storage,
      socketPath,
      folder,
      waitMs,
      wal: {
        place: { clusterId: newest.clusterId, systemIdentifier: manifest.systemIdentifier },
        ...(identities === undefined ? {} : { identities }),
        ...(command.walEndLsn === "" ? {} : { endLsn: parseLsn(command.walEndLsn) }),
        signal,
      },
      onServed: (name) => log(`replays ${name}`),
    }),
  );
  const resources = stack.move();
  const quoted = [shim, "fetch", socketPath].map((word) => `'${word.replaceAll("'", "'\\''").replaceAll("%", "%%")}'`);
  return {
    restoreCommand: `${quoted.join(" ")} %f %p`,
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}

/** coppice-wal of the same installation: bin/coppice-wal beside lib/coppice/coppice-agent/main.js. */
async function findShim(): Promise<string> {
  const path = join(dirname(process.argv[1] ?? ""), "../../../bin/coppice-wal");
  const found = await stat(path).catch(() => undefined);
  return found?.isFile() ? path : fail("PROGRAM_MISSING", `coppice-wal is not at ${path}, beside the agent`);
}
