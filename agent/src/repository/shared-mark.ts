import type { RepositoryTarget } from "@coppice/proto/gen/coppice/agent/v1/repository_target";
import { fail, isFailure } from "@coppice/proto/kit/failure";
import type { Storage } from "../storage/storage.ts";
import { sharedMarkKey } from "./layout.ts";
import { readObject } from "./read-object.ts";

/** Whether a repository is a folder that is declared to be one and the same on every host. */
export function isShared({ location }: RepositoryTarget): boolean {
  return location?.kind.case === "filesystem" && location.kind.value.shared;
}

/**
 * Refuses a folder that is declared shared and does not hold the mark that the home host's check wrote: on this host it
 * is another folder, where a disk is not mounted for example. Fails with REPOSITORY_UNREACHABLE.
 */
export async function requireSharedMark(
  storage: Storage,
  { repositoryId, name }: RepositoryTarget,
  signal: AbortSignal,
): Promise<void> {
  const hint = `mount the shared folder on this host; on its home host run: coppice repository check ${name}`;
  let text: string;
  try {
    text = (await readObject(storage, sharedMarkKey, signal)).toString("utf8");
  } catch (error) {
    if (!isFailure(error, "OBJECT_MISSING")) throw error;
    return fail("REPOSITORY_UNREACHABLE", `${storage.name} on this host is not proved to be the shared folder`, {
      hint,
    });
  }
  if (text === formatMark(repositoryId)) return;
  fail("REPOSITORY_UNREACHABLE", `${storage.name} on this host is the shared folder of another repository`, {
    hint: `mount the right one on this host; or, where the control plane that declared it shared is no more, remove ${sharedMarkKey} in it on its home host, and run: coppice repository check ${name}`,
  });
}

/** Puts the mark where there is none yet. */
export async function putSharedMark(
  storage: Storage,
  { repositoryId }: RepositoryTarget,
  signal: AbortSignal,
): Promise<void> {
  const body = (async function* () {
    yield Buffer.from(formatMark(repositoryId), "utf8");
  })();
  try {
    await storage.put(sharedMarkKey, body, { signal, ifAbsent: true });
  } catch (error) {
    if (!isFailure(error, "OBJECT_EXISTS")) throw error;
  }
}

const formatMark = (repositoryId: string) => `${JSON.stringify({ repositoryId })}\n`;
