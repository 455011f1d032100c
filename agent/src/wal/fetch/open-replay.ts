import { randomUUID } from "node:crypto";
import { chown, mkdir, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { Failure, fail, isFailure } from "@coppice/proto/kit/failure";
import type { OsUser } from "../../host/os-user.ts";
import { openTablespaceWatch, type ReplayingServer } from "../../postgres/wal/new-tablespaces.ts";
import type { Storage } from "../../storage/storage.ts";
import { damagedWalHint } from "../store/wal-codec.ts";
import type { WalToFetch } from "./fetch-wal.ts";
import { openFetchServer } from "./serve-fetch.ts";

/** Archived WAL on its way to a server that recovers; disposing hands out no more. */
export interface Replay extends AsyncDisposable {
  /** The server's restore_command. */
  readonly restoreCommand: string;
  /** Why what comes behind some record, or a file that the server needs, was not handed out. */
  readonly refused: () => Failure | undefined;
}

const waitMs = 300_000;

/**
 * Hands out the WAL that a restore replays, over a socket in a folder that nobody but the server's user enters, as long as
 * it is open: the WAL in it is no longer encrypted. `workFolder` is one that this user can pass through. Fails with
 * PROGRAM_MISSING without coppice-wal, or as the storage does.
 */
export async function openReplay({
  storage,
  workFolder,
  user,
  server,
  wal,
  onServed,
}: {
  readonly storage: Storage;
  readonly workFolder: string;
  /** The server's; undefined where none is to ask. */
  readonly user: OsUser | undefined;
  readonly server: ReplayingServer;
  readonly wal: Omit<WalToFetch, "name">;
  readonly onServed: (name: string) => void;
}): Promise<Replay> {
  const shim = await findShim();
  const folder = join(workFolder, `w-${randomUUID().replaceAll("-", "")}`);
  await using stack = new AsyncDisposableStack();
  stack.defer(() => rm(folder, { recursive: true, force: true }));
  await mkdir(folder, { mode: 0o700 });
  if (user && process.geteuid?.() === 0) await chown(folder, user.uid, user.gid);
  const socketPath = join(folder, "s");
  const watch = openTablespaceWatch(server);
  let failed: Failure | undefined;
  let last = "";
  // What was handed out all the same, by another try, did not end the server.
  const heard = {
    onServed(name: string) {
      last = name;
      failed = undefined;
      onServed(name);
    },
    onFailed(name: string, failure: Failure) {
      if (name !== last) failed = asDamage(failure, name);
    },
  };
  stack.use(await openFetchServer({ storage, socketPath, folder, waitMs, user, wal, watch, ...heard }));
  const resources = stack.move();
  return {
    restoreCommand: `${[shim, "fetch", socketPath].map(quoteWord).join(" ")} %f %p`,
    refused: () => watch.refused ?? failed,
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}

/** What cannot be decrypted is damaged, too; the server's log alone would say which file it is. */
function asDamage(failure: Failure, name: string): Failure {
  const isUndecrypted = isFailure(failure, "PROGRAM_FAILED") && failure.metadata["exitCode"] !== undefined;
  if (!isUndecrypted && !isFailure(failure, "CONTENT_UNREADABLE")) return failure;
  return new Failure("CONTENT_UNREADABLE", `recovery needs ${name}: ${failure.message}`, {
    hint: damagedWalHint,
    cause: failure,
  });
}

/** A word of a restore_command, for its shell and with nothing in it that PostgreSQL would fill in. */
export function quoteWord(word: string): string {
  return `'${word.replaceAll("'", "'\\''").replaceAll("%", "%%")}'`;
}

/**
 * Path of coppice-wal of the same installation, bin/coppice-wal beside lib/coppice/coppice-agent/main.js; or of the same
 * sources. Fails with PROGRAM_MISSING.
 */
export async function findShim(): Promise<string> {
  const installed = join(dirname(process.argv[1] ?? ""), "../../../bin/coppice-wal");
  const source = join(import.meta.dirname, "../../../../deploy/debian/coppice-wal");
  for (const path of [installed, source]) {
    const found = await stat(path).catch(() => undefined);
    if (found?.isFile()) return path;
  }
  return fail("PROGRAM_MISSING", `coppice-wal is not at ${installed}, beside the agent`);
}
