import { chown, type FileHandle, open, rename, rm, stat } from "node:fs/promises";
import { dirname } from "node:path";

/** Makes a change of the folder's entries durable. */
export async function syncFolder(folder: string): Promise<void> {
  await using handle = await open(folder, "r");
  await handle.sync();
}

/**
 * Replaces or makes a file (0600) so that after a crash either the old or the new content is there, whole; durable when
 * resolved. The file belongs to its folder's owner: enrolment is often done as root for an agent that is not; or, by that
 * option, to who writes it.
 */
export function replaceFile(path: string, content: string, options: ReplaceOptions = {}): Promise<void> {
  return inTurn(path, () => replaceNow(path, content, options));
}

interface ReplaceOptions {
  readonly isWritersOwn?: boolean;
}

const turns = new Map<string, Promise<unknown>>();

/** Does one thing after the other that is about one file, as far as this process does it. Fails as the work. */
export function inTurn<T>(file: string, work: () => Promise<T>): Promise<T> {
  const before = turns.get(file) ?? Promise.resolve();
  const turn = before.then(work, work);
  const ended = turn.then(
    () => {},
    () => {},
  );
  turns.set(file, ended);
  void ended.then(() => {
    if (turns.get(file) === ended) turns.delete(file);
  });
  return turn;
}

async function replaceNow(path: string, content: string, { isWritersOwn = false }: ReplaceOptions): Promise<void> {
  const temporary = `${path}.new`;
  try {
    {
      await rm(temporary, { force: true });
      await using handle = await open(temporary, "wx", 0o600);
      await handle.writeFile(content);
      if (!isWritersOwn) await ownAsFolder(handle, path);
      await handle.sync();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  await syncFolder(dirname(path));
}

/** Gives a file that root has just made to the owner of its folder. */
export async function ownAsFolder(handle: FileHandle, path: string): Promise<void> {
  if (process.getuid?.() !== 0) return;
  const { uid, gid } = await stat(dirname(path));
  await handle.chown(uid, gid);
}

/** Gives a folder that root has just made to the owner of the folder it is in. */
export async function ownAsParent(folder: string): Promise<void> {
  if (process.getuid?.() !== 0) return;
  const { uid, gid } = await stat(dirname(folder));
  await chown(folder, uid, gid);
}
