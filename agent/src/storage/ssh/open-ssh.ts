import type { SshLocation } from "@coppice/proto/gen/coppice/common/v1/location";
import { sftpFailure } from "../sftp/sftp-failure.ts";
import { canSyncFolders } from "../sftp/sftp-folder.ts";
import { openSftpRoot, type SftpRoot } from "../sftp/sftp-root.ts";
import type { SftpSession, SshPatience } from "../sftp/sftp-session.ts";
import { makeSftpStorage } from "../sftp/sftp-storage.ts";
import type { StorageCredentials } from "../access.ts";
import type { Finding, Storage } from "../storage.ts";
import { serverName } from "./ssh-connect.ts";
import { makeSshLinks } from "./ssh-links.ts";

/** What opening takes besides the location. */
export interface OpenSshOptions {
  /** Marks what is left if the process is killed. */
  readonly operationId: string;
  readonly credentials?: StorageCredentials | undefined;
  /** For the opening alone. */
  readonly signal: AbortSignal;
  /** For servers that are known to be quick, as in tests. */
  readonly patience?: SshPatience;
}

const defaultPatience: SshPatience = { connectMs: 20_000, silenceMs: 45_000, answerMs: 120_000, syncMs: 900_000 };

/**
 * Opens a folder of a server as a storage, by SFTP. Objects are files of their keys, 0600, in folders of 0700; the
 * folder itself is never made. Folders are fsynced as files are: OpenSSH's server opens a folder like a file and takes
 * fsync@openssh.com for it. A server that does not has a shortcoming: the name of an object may be lost when it crashes
 * in the next seconds. A connection that is lost fails what is under way; the next call makes another.
 * Fails with REPOSITORY_UNREACHABLE, HOST_KEY_UNTRUSTED, STORAGE_CREDENTIAL_REFUSED, STORAGE_CREDENTIAL_UNUSABLE,
 * REPOSITORY_NOT_READABLE or the signal's reason.
 */
export async function openSsh(
  location: SshLocation,
  { operationId, credentials = {}, signal, patience = defaultPatience }: OpenSshOptions,
): Promise<Storage> {
  const name = `ssh://${location.user}@${serverName(location)}${location.path}`;
  const links = makeSshLinks(location, credentials, { name, patience });
  try {
    // A host that may only write has no key to read with.
    const session = await links.to(credentials.read || !credentials.write ? "read" : "write").session(signal);
    const root = await openRoot(session, name, location.path, signal);
    const syncsFolders = await canSyncFolders(session, root.realPath, signal);
    const { extensions } = session;
    const reach = (purpose: keyof StorageCredentials, reaching: AbortSignal) => links.to(purpose).session(reaching);
    return {
      ...makeSftpStorage({ operationId, root, syncsFolders, extensions, reach }),
      inspect: async () => shortcomings(extensions, syncsFolders),
      async [Symbol.asyncDispose]() {
        links[Symbol.dispose]();
      },
    };
  } catch (error) {
    links[Symbol.dispose]();
    throw error;
  }
}

async function openRoot(session: SftpSession, name: string, path: string, signal: AbortSignal): Promise<SftpRoot> {
  try {
    return await openSftpRoot(session, { name, path }, signal);
  } catch (error) {
    throw await sftpFailure(error, session, { doing: "read", name, path, key: "" }, signal);
  }
}

const meaningByExtension: Readonly<Record<string, string>> = {
  "fsync@openssh.com": "nothing can be stored, because it could not be made durable",
  "hardlink@openssh.com": "of two writers of one key both may believe that they were first",
  "posix-rename@openssh.com": "an object cannot be replaced",
  "statvfs@openssh.com": "its free space is unknown, and a disk that is no longer mounted is not noticed",
};

/** What the server lacks and what that means; OpenSSH's lacks nothing. */
function shortcomings(extensions: ReadonlySet<string>, syncsFolders: boolean): Finding[] {
  const missing = Object.entries(meaningByExtension).filter(([extension]) => !extensions.has(extension));
  const said = missing.map(([extension, meaning]) => `the server does not know ${extension}: ${meaning}`);
  if (!syncsFolders && extensions.has("fsync@openssh.com")) {
    said.push("the server does not fsync folders: when it crashes, objects of the last seconds may be lost");
  }
  if (said.length === 0)
    return [{ name: "server", status: "ok", message: "the server knows all that is needed", fix: "" }];
  const fix = "use OpenSSH's own sftp-server, with none of its requests turned off";
  return said.map((message) => ({ name: "server", status: "warning", message, fix }));
}
