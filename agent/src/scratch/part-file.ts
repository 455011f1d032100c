import { access, constants, link, lstat, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { fail } from "@coppice/proto/kit/failure";
import type { Sight } from "../host/look.ts";
import { syncFolder } from "../journal/durable-file.ts";

/** What a dump file is called until it is whole and checked. */
export function unfinishedFile(path: string, operationId: string): string {
  return `${path}.${operationId}.unfinished`;
}

async function find(path: string) {
  return await lstat(path, { bigint: true }).catch((error: unknown) => {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw error;
  });
}

/** Whether the file can be made. Fails with FILE_EXISTS or FILE_NOT_WRITABLE. */
export async function seeFile(path: string): Promise<Sight> {
  const folder = dirname(path);
  const problem = await access(folder, constants.W_OK | constants.X_OK).then(
    () => undefined,
    (error: unknown) => (error instanceof Error && "code" in error ? String(error.code) : "unknown"),
  );
  if (problem !== undefined)
    fail(
      "FILE_NOT_WRITABLE",
      `the agent cannot make ${path}: ${problem === "ENOENT" ? `there is no ${folder}` : problem}`,
    );
  if (await find(path)) fail("FILE_EXISTS", `the file ${path} is there already`);
  return { message: `${path} will be made, for the agent's user alone` };
}

/** Gives a checked file its name, in whose place there must be nothing. Fails with FILE_EXISTS. */
export async function putFileIntoPlace(unfinished: string, path: string): Promise<void> {
  try {
    // Not by a rename, which would take the place of a file that has come meanwhile.
    await link(unfinished, path);
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "EEXIST")
      fail("FILE_EXISTS", `the file ${path} is there already`, { cause: error });
    throw error;
  }
  await rm(unfinished);
  await syncFolder(dirname(path));
}

/**
 * Ends what an earlier run has left of a file, by whether the file has its name: only a whole and checked one gets it.
 * Says whether it has, and whether something was removed.
 */
export async function settleFile(
  unfinished: string,
  path: string,
): Promise<{ isInPlace: boolean; isRemoved: boolean }> {
  const [left, there] = [await find(unfinished), await find(path)];
  const isInPlace = left !== undefined && there !== undefined && left.ino === there.ino && left.dev === there.dev;
  await rm(unfinished, { force: true });
  return { isInPlace, isRemoved: left !== undefined && !isInPlace };
}
