import { readdir } from "node:fs/promises";
import { identityAt } from "./offered-file.ts";
import type { StoredFile } from "./store-offered.ts";

/** How files are stored, and which of them wait. */
export interface LookAheadOptions {
  /** Folder of the server's own marks of what waits: NAME.ready. */
  readonly statusFolder: string;
  /** Stores one file out of the server's folder. */
  readonly store: (name: string) => Promise<StoredFile>;
  readonly pathOf: (name: string) => string;
  readonly signal: AbortSignal;
}

/** Stores what a server asks for one by one, and meanwhile what it will ask for next. */
export interface LookAhead {
  /** Resolves when the file, as it is now, is durable. Fails as `store`. */
  take(name: string): Promise<StoredFile>;
  /** Resolves when nothing is stored any more. */
  settled(): Promise<void>;
}

/** Stored and not asked for yet, or on their way. */
const mostAhead = 8;
const atOnce = 3;

/** Opens one for a server. */
export function openLookAhead({ statusFolder, store, pathOf, signal }: LookAheadOptions): LookAhead {
  const begun = new Map<string, Promise<StoredFile>>();
  const running = new Set<Promise<unknown>>();
  let waiting: string[] = [];
  let newest = "";
  let isListing = false;

  function begin(name: string): Promise<StoredFile> {
    const storing = store(name);
    const ended = storing.then(
      () => {},
      // It is asked for again by who needs it, and fails there.
      () => void begun.delete(name),
    );
    running.add(ended);
    void ended.then(() => {
      running.delete(ended);
      advance();
    });
    return storing;
  }
  function advance(): void {
    while (!signal.aborted && running.size < atOnce && begun.size < mostAhead) {
      const name = waiting.shift();
      if (name === undefined) return;
      if (!begun.has(name)) begun.set(name, begin(name));
    }
  }
  /** Looks which segments wait behind the one that was asked for; where the marks may not be read there is none. */
  async function list(): Promise<void> {
    if (isListing || waiting.length > 0) return;
    isListing = true;
    const marks = await readdir(statusFolder).catch(() => []);
    isListing = false;
    const names = marks.flatMap((mark) => /^([0-9A-F]{24})\.ready$/.exec(mark)?.[1] ?? []);
    const ready = new Set(names);
    // What waits no more was given to somebody else.
    for (const name of begun.keys()) if (!ready.has(name)) begun.delete(name);
    waiting = names.filter((name) => name > newest && !begun.has(name)).toSorted();
  }
  async function isUnchanged({ name, identity }: StoredFile): Promise<boolean> {
    return (await identityAt(pathOf(name))) === identity;
  }

  return {
    async take(name) {
      if (/^[0-9A-F]{24}$/.test(name)) newest = name;
      const ahead = begun.get(name);
      begun.delete(name);
      // What comes next is stored beside this one.
      void list().then(advance);
      const early = await ahead?.catch(() => undefined);
      return early && (await isUnchanged(early)) ? early : await begin(name);
    },
    async settled() {
      while (running.size > 0) await Promise.all(running);
    },
  };
}
