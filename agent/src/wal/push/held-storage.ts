import { isFailure } from "@coppice/proto/kit/failure";
import type { Storage } from "../../storage/storage.ts";

/** A storage that is opened when it is first needed, and anew after it was not there. */
export interface HeldStorage extends AsyncDisposable {
  /** Runs work with it; fails as opening it, or as the work. */
  use<Result>(work: (storage: Storage) => Promise<Result>): Promise<Result>;
}

interface Opened {
  readonly storage: Promise<Storage>;
  users: number;
  isStale: boolean;
}

/** Holds what `open` gives, for several users at once. */
export function holdStorage(open: () => Promise<Storage>): HeldStorage {
  let present: Opened | undefined;
  const closing = new Set<Promise<void>>();
  function close({ storage }: Opened): void {
    const closed: Promise<void> = storage
      .then((one) => one[Symbol.asyncDispose]())
      // One that could not be opened has been told of by who wanted it.
      .catch(() => {})
      .finally(() => closing.delete(closed));
    closing.add(closed);
  }
  function retire(opened: Opened): void {
    opened.isStale = true;
    if (present === opened) present = undefined;
  }
  return {
    async use(work) {
      const opened = (present ??= { storage: open(), users: 0, isStale: false });
      opened.users++;
      try {
        return await work(await opened.storage);
      } catch (error) {
        // A folder that was mounted again, or a server that was moved, is another one.
        if (!isFailure(error) || error.reason.startsWith("REPOSITORY_")) retire(opened);
        throw error;
      } finally {
        opened.users--;
        if (opened.isStale && opened.users === 0) close(opened);
      }
    },
    async [Symbol.asyncDispose]() {
      if (present) close(present);
      present = undefined;
      await Promise.all(closing);
    },
  };
}
