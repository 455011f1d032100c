import { fail } from "@coppice/proto/kit/failure";
import { parseFileKey } from "../file-key.ts";
import { parseObjectKey } from "../object-key.ts";
import type { Storage } from "../storage.ts";
import { parseTemporaryName } from "../temporary-name.ts";
import { deleteBySftp } from "./sftp-delete.ts";
import { type SftpAttempt, sftpFailure } from "./sftp-failure.ts";
import { sftpFilesystem } from "./sftp-filesystem.ts";
import { findSftpPath, type SftpPlace } from "./sftp-folder.ts";
import { getBySftp } from "./sftp-get.ts";
import { type FoundBySftp, listBySftp } from "./sftp-list.ts";
import { isRegularFile, isSymbolicLink } from "./sftp-mode.ts";
import { putBySftp } from "./sftp-put.ts";
import { lookAt } from "./sftp-requests.ts";
import { checkSftpRoot, type SftpRoot } from "./sftp-root.ts";
import type { SftpSession } from "./sftp-session.ts";

/** What a storage by SFTP is made of. */
export interface SftpStorageParts {
  readonly operationId: string;
  readonly root: SftpRoot;
  readonly syncsFolders: boolean;
  /** What the server announced when the storage was opened. */
  readonly extensions: ReadonlySet<string>;
  /** Gives the session for a purpose, connecting where it is needed. */
  readonly reach: (purpose: "write" | "read" | "delete", signal: AbortSignal) => Promise<SftpSession>;
}

/** The calls of Storage by SFTP, each by the session of its purpose. */
export function makeSftpStorage(parts: SftpStorageParts): Omit<Storage, typeof Symbol.asyncDispose> {
  const { operationId, root, syncsFolders, extensions, reach } = parts;
  const purposes = { write: "write", read: "read", list: "read", delete: "delete" } as const;
  const placeFor = async (doing: SftpAttempt["doing"], signal: AbortSignal): Promise<SftpPlace> => ({
    session: await reach(purposes[doing], signal),
    root,
    syncsFolders,
  });
  const attempt = async <T>(
    doing: SftpAttempt["doing"],
    key: string,
    signal: AbortSignal,
    run: (place: SftpPlace) => Promise<T>,
  ): Promise<T> => {
    const place = await placeFor(doing, signal);
    try {
      return await run(place);
    } catch (error) {
      throw await sftpFailure(error, place.session, { doing, name: root.name, path: root.realPath, key }, signal);
    }
  };
  const deleteFiles = (first: string | undefined, files: readonly string[][], signal: AbortSignal) =>
    attempt("delete", first ?? "", signal, (place) => deleteBySftp(place, files, signal));

  async function* listed(prefix: string, signal: AbortSignal): AsyncGenerator<FoundBySftp> {
    const place = await placeFor("list", signal);
    try {
      yield* listBySftp(place, prefix, signal);
    } catch (error) {
      const said = { doing: "list", name: root.name, path: root.realPath, key: prefix } as const;
      throw await sftpFailure(error, place.session, said, signal);
    }
  }

  return {
    name: root.name,
    capabilities: {
      putIfAbsent: extensions.has("hardlink@openssh.com"),
      putIfAbsentBytes: Infinity,
      freeBytes: extensions.has("statvfs@openssh.com"),
      countsDeleted: true,
      keepsDigests: false,
      comparesPuts: false,
    },
    put: (key, body, options) =>
      putBySftp({ operationId, key, body, options, reach: (signal) => placeFor("write", signal) }),
    get: (key, { signal, range }) => attempt("read", key, signal, (place) => getBySftp(place, key, range, signal)),
    stat: (key, signal) => attempt("read", key, signal, (place) => statBySftp(place, key, signal)),
    async *list(prefix, signal) {
      for await (const { key, sizeBytes } of listed(prefix, signal)) {
        if (!temporaryNameOf(key)) yield { key, sizeBytes };
      }
    },
    deleteMany: async (keys, signal) => deleteFiles(keys[0], keys.map(parseFileKey), signal),
    async *listUnfinished(prefix, signal) {
      for await (const { key, sizeBytes, modifiedTime } of listed(prefix, signal)) {
        const name = temporaryNameOf(key);
        if (name) yield { id: key, key, operationId: name.operationId, sizeBytes, modifiedTime };
      }
    },
    removeUnfinished: async (unfinished, signal) =>
      deleteFiles(
        unfinished[0]?.id,
        unfinished.map(({ id }) => parseTemporaryPath(id)),
        signal,
      ),
    freeBytes: (signal) =>
      attempt("read", "", signal, async ({ session }) => {
        await checkSftpRoot(session, root, signal);
        return (await sftpFilesystem(session, root.realPath, signal))?.freeBytes;
      }),
  };
}

const temporaryNameOf = (key: string) => parseTemporaryName(key.slice(key.lastIndexOf("/") + 1));

function parseTemporaryPath(id: string): string[] {
  const names = parseObjectKey(id);
  if (!temporaryNameOf(id)) fail("OBJECT_KEY_REFUSED", `${JSON.stringify(id)} is not a file that was being written`);
  return names;
}

async function statBySftp(place: SftpPlace, key: string, signal: AbortSignal) {
  const path = await findSftpPath(place, parseFileKey(key), signal);
  if (path === undefined) return undefined;
  const found = await lookAt(place.session, path, signal);
  if (found === undefined) {
    await checkSftpRoot(place.session, place.root, signal);
    return undefined;
  }
  if (isSymbolicLink(found)) {
    fail("OBJECT_KEY_REFUSED", `repository ${place.root.name}: ${key} is a symbolic link`);
  }
  return isRegularFile(found) ? { sizeBytes: found.size } : undefined;
}
